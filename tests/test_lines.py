"""Stored lines: two parsers that have to agree, and a look at a line that skips nothing."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from pgbench import lines
from pgbench.records import SampleLine

LINE = SampleLine(
    id="q1",
    prompt='what "is" \\ \u2028 路?',
    request_key="0f" * 32,
    image="",
    batch=12,
    batch_size=8,
    output="yes\t\x00",
    tokens=3,
    n_prompt=9,
    seconds=0.1 + 0.2,
    finite=True,
    stats={"accuracy": {"sum": 1 / 3, "n": 1}},
    target=("a", "b"),
    cluster="image 1",
    groups={"kind": "colour"},
)
RAW = lines.dump(LINE)
PIECES = st.sampled_from(
    [bytes([byte]) for byte in b'"\\{}[],:0123456789.eE-+ntfud \t'] + [b"\\ud800", b"null"]
)
EDIT = st.tuples(st.integers(0, len(RAW) - 2), st.integers(0, 2), st.binary(max_size=1) | PIECES)


def by_python(raw: bytes) -> SampleLine | None:
    """As `parse` does, with Python's own parser alone."""

    def refuse(raw: bytes) -> object:
        raise ValueError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "from_json", refuse)
        return lines.parse(raw)


def same(raw: bytes) -> None:
    line = lines.parse(raw)
    assert repr(line) == repr(by_python(raw)), raw  # nan is not equal to itself
    assert lines.place(raw) == (None if line is None else (line.batch, line.id))


@given(st.lists(EDIT, min_size=1, max_size=3))
def test_both_parsers_read_the_same_in_a_damaged_line(edits: list[tuple[int, int, bytes]]) -> None:
    raw = RAW
    for start, lost, put in edits:
        raw = raw[:start] + put + raw[start + lost :]
    same(raw)


@pytest.mark.parametrize(
    "number",
    "-0 1E5 1e999 0.1e-400 123456789012345678901234567890 01 1. .5 + true null NaN -Infinity [1]".split(),
)
@pytest.mark.parametrize("place", [b'"seconds":', b'"sum":', b'"batch":', b'"tokens":'])
def test_both_parsers_read_the_same_number(place: bytes, number: str) -> None:
    before, after = RAW.split(place)
    rest = after[after.index(b",") :]
    same(before + place + number.encode() + rest)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"tokens":3', b'"tokens":3,"tokens":7'),
        (b'"tokens":3,', b""),
        (b'"tokens":3', b'"tokens":3,"more":7'),
        (b',"cluster":"image 1","groups":{"kind":"colour"},"reused":""', b""),
        (b"yes", b"\xed\xa0\x80"),
        (b"yes", b"\xff"),
        (b"yes", b"\\ud800"),
        (b"yes", b"\\uDC00\\ud800"),
        (b"yes", b"\\ud83d\\ude00"),
        (b'"colour"', b"[" * 300 + b"]" * 300),
        (b'"colour"', b"[" * 100_000 + b"]" * 100_000),
        (b'{"accuracy"', b'[],"x":{"accuracy"'),
    ],
    ids=repr,
)
def test_both_parsers_read_the_same_oddity(old: bytes, new: bytes) -> None:
    assert RAW.count(old) == 1
    same(RAW.replace(old, new))


def test_lines_of_schema_1_are_read() -> None:
    old = RAW.replace(b',"cluster":"image 1","groups":{"kind":"colour"},"reused":""', b"")
    assert old != RAW
    assert lines.parse(old) == lines.parse(RAW.replace(b"image 1", b"").replace(b'"kind":"colour"', b""))


def test_a_batch_without_a_number_is_foreign() -> None:
    for batch in (b"12.0", b'"12"', b"null"):
        raw = RAW.replace(b'"batch":12', b'"batch":' + batch)
        assert (lines.parse(raw), lines.place(raw)) == (None, None)


def test_an_id_that_is_no_text_is_foreign() -> None:
    for name in (b"1", b'["q1"]', b"null"):
        raw = RAW.replace(b'"id":"q1"', b'"id":' + name)
        assert (lines.parse(raw), lines.place(raw)) == (None, None)


def test_floats_come_back_to_the_last_bit() -> None:
    drawn = random.Random(3)
    for _ in range(20_000):
        value = math.exp(drawn.uniform(-700, 700))
        for text in (repr(value), f"{value:.25g}"):
            assert from_json(text.encode()) == json.loads(text)
