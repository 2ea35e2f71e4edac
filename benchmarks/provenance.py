"""What a measurement was made with: command, date, versions, commit. No host, user or path."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pgbench.backends import versions

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "transformers", "tokenizers", "bitsandbytes", "accelerate", "numpy", "pillow")


def provenance(script: str, written: str) -> dict[str, object]:
    """`script` and `written` (the file that the measurement goes to) are relative to the repository."""
    return {
        "command": " ".join(["python", script, *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(*PACKAGES),
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "dirty": _dirty(written),
    }


def _dirty(written: str) -> bool | None:
    """Whether anything but the measurement itself differs from the commit; None outside a checkout."""
    found = _git("status", "--porcelain", "--untracked-files=all")
    if found is None:
        return None
    return any(line[3:] != written for line in found.splitlines())


def _git(*words: str) -> str | None:
    """What git prints, None where there is no git or no checkout. Leading blanks count."""
    command: Sequence[str] = ("git", "-C", str(ROOT), *words)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None
