r"""The text of files that test servers take, bit by bit: nothing is held but one record.

All JSON here is ASCII: graders open files in the encoding of their machine and split them at line ends, and
an answer may hold U+2028, half a surrogate pair or anything else a model can print.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TypeAlias

from pgbench.types import Sample

Pairs: TypeAlias = Iterable[tuple[Sample, str]]
Pieces: TypeAlias = Callable[[Pairs], Iterator[str]]


def json_array(record: Callable[[Sample, str], Mapping[str, object]]) -> Pieces:
    """A JSON array with one record a line."""
    return partial(_enclosed, "[", "]", lambda sample, text: json.dumps(record(sample, text)))


def json_object(value: Callable[[Sample, str], str]) -> Pieces:
    """A JSON object {sample id: value}, one member a line."""
    return partial(
        _enclosed,
        "{",
        "}",
        lambda sample, text: f"{json.dumps(sample.id)}: {json.dumps(value(sample, text))}",
    )


def json_lines(record: Callable[[Sample, str], Mapping[str, object]]) -> Pieces:
    """JSON Lines."""
    return partial(_lines, record)


def _enclosed(opening: str, closing: str, item: Callable[[Sample, str], str], pairs: Pairs) -> Iterator[str]:
    mark = opening
    for sample, text in pairs:
        yield f"{mark}\n{item(sample, text)}"
        mark = ","
    yield f"\n{closing}\n" if mark == "," else f"{opening}{closing}\n"


def _lines(record: Callable[[Sample, str], Mapping[str, object]], pairs: Pairs) -> Iterator[str]:
    for sample, text in pairs:
        yield json.dumps(record(sample, text)) + "\n"


def question_answer(sample: Sample, text: str) -> Mapping[str, object]:
    """VQA's record, of VQAv2 and TextVQA: the answer as decoded, which the servers normalise themselves."""
    return {"question_id": int(sample.id), "answer": text}
