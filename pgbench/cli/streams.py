"""stdout and stderr, made safe: what a library prints never mixes with a document of ours."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator

from pgbench.errors import INCOMPLETE, OK


def open_all() -> None:
    """Streams that exist and can take any text.

    A closed stream is None in Python, and the next file opened would get its number; a character that the
    terminal's encoding lacks is escaped instead of ending a finished run.
    """
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            handle = os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: the stream's own
            setattr(sys, name, os.fdopen(handle, "r" if number == 0 else "w"))
        elif number and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def stdout_on_stderr() -> Iterator[None]:
    """For the time of the work, everything that is printed goes to stderr, also by C libraries."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def print_json(document: object) -> None:
    """One document; escaped to ASCII where the stream cannot take Unicode."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    try:
        text = json.dumps(document, ensure_ascii=not unicode, indent=1)
        text.encode()
    except UnicodeEncodeError:  # lone surrogates: a file name that is not UTF-8
        text = json.dumps(document, indent=1)
    # A log of GitHub obeys ##[command] anywhere in a line; in a document # stands in texts alone.
    print(text.replace("##[", r"\u0023#["))


def flush() -> int:
    """Flush stdout; the exit code that its state calls for."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader left (`pgbench tasks | head`): nothing to say
        silence()
    except OSError as error:
        silence()
        print(f"pgbench: cannot write the output: {error.strerror}", file=sys.stderr)
        return INCOMPLETE
    return OK


def silence() -> None:
    """Python flushes once more at exit; that must not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
