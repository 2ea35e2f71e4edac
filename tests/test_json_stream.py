"""Records of a large JSON file, one at a time, whatever the chunks cut."""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgbench.errors import DataError
from pgbench.sources import json_stream
from pgbench.sources.json_stream import json_records

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
values: st.SearchStrategy[Json] = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
records = st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3), min_size=1, max_size=4)


def read(folder: Path, content: bytes) -> list[object]:
    (folder / "a.json").write_bytes(content)
    return list(json_records(folder, "a.json", "data"))


@given(records, st.dictionaries(st.text(max_size=4), values, max_size=3), st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_document_in_any_chunks(
    tmp_path: Path, wanted: list[object], beside: dict[str, Json], data: st.DataObject
) -> None:
    before = data.draw(st.integers(0, len(beside)))
    members = [(key, value) for key, value in beside.items() if key != "data"]
    document = dict([*members[:before], ("data", wanted), *members[before:]])
    indent, plain = data.draw(st.sampled_from([None, 0, 3, 40])), data.draw(st.booleans())
    content = json.dumps(document, indent=indent, ensure_ascii=plain).encode(errors="replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", data.draw(st.sampled_from([1, 2, 3, 7, 50, 1 << 18])))
        assert repr(read(tmp_path, content)) == repr(json.loads(content)["data"])


@given(st.binary(max_size=3), st.integers(0, 200), st.integers(0, 3))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_told_and_never_passed_over(tmp_path: Path, junk: bytes, at: int, drop: int) -> None:
    """Whatever `json.loads` refuses is refused here."""
    good = json.dumps({"n": 12, "data": [{"a": "ü\n", "b": [1, None]}, {"a": 2}], "z": -1.5e3}).encode()
    at = min(at, len(good))
    content = good[:at] + junk + good[at + drop :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", 5)
        try:
            document = json.loads(content.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            with pytest.raises(DataError):
                read(tmp_path, content)
            return
        records = document.get("data") if isinstance(document, dict) else None
        if isinstance(records, list) and records and all(isinstance(one, dict) for one in records):
            assert read(tmp_path, content) == records
        else:
            with pytest.raises(DataError, match=r"expected|should be"):
                read(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "a.json is not JSON: Expecting value at character 1; download it again"),
        (b'{"data": [{"a": 1}, {"a": oops}]}', "Expecting value at character 27"),
        (b'{"data": [{"a": 1}', "Expecting ',' or ']' at character 19"),
        (b'{"data": [{"a": "b', "Unterminated string starting at at character 17"),
        (b'{"data": [{"a": 1}]', "Expecting ',' or '}' at character 20"),
        (b'{"data": [{"a": 1},]}', "Expecting value at character 20"),
        (b'{"data": [{"a": 1}]} x', "Extra data at character 22"),
        (b'{1: [{"a": 1}]}', "Expecting property name enclosed in double quotes"),
        (b'{"data": [{"a": "\xff\xfe"}]}', "not JSON: UnicodeDecodeError"),
        (b'{"data": [{"a": %b}]}' % (b"9" * 5000), "not JSON: ValueError; download it again"),
        (b'{"data": [{"a": "\xc3', "not JSON: UnicodeDecodeError"),
        (b'{"data": [' + b"[" * 200_000, "not JSON: RecursionError"),
        (b"[]", "expected an object with 'data', got an empty list"),
        (b'{"rows": []}', "expected an object with 'data', got keys rows"),
        (b"{}", "expected an object with 'data', got keys nothing"),
        (b'{"data": {}}', "'data' should be a list of records, got an object"),
        (b'{"data": []}', "'data' should be a list of records, got an empty list"),
        (b'{"data": [{}, 7]}', "record 1 should be an object, got 7"),
    ],
)
@pytest.mark.parametrize("chunk", [3, 1 << 18])
def test_what_is_wrong_is_named(
    tmp_path: Path, content: bytes, said: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "b.json").touch()
    with pytest.raises(DataError, match=r"a\.json is not in .*; there: b\.json"):
        next(json_records(tmp_path, "a.json", "data"))
    (tmp_path / "a.json").mkdir()
    with pytest.raises(DataError, match=r"a\.json cannot be read"):
        next(json_records(tmp_path, "a.json", "data"))


def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    """20 MB of records, each of which is let go."""
    (tmp_path / "a.json").write_text(json.dumps({"data": [{"a": "x" * 200}] * 100_000}))
    tracemalloc.start()
    try:
        assert sum(1 for _ in json_records(tmp_path, "a.json", "data")) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
