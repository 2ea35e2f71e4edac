"""The generic pieces of the original layouts: JSON, records, names, image folders, digests."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from pgbench.errors import DataError
from pgbench.sources import files
from pgbench.types import Image, Sample


def test_json_that_is_not_there_names_what_is(tmp_path: Path) -> None:
    (tmp_path / "TextVQA_0.5.1_train.json").write_text("{}")
    with pytest.raises(DataError, match=r"a\.json is not in .*; there: TextVQA_0\.5\.1_train\.json"):
        files.read_json(tmp_path, "a.json")
    for count in range(12):
        (tmp_path / f"{count:02}").touch()
    with pytest.raises(DataError, match=r"there: 00, 01, 02, 03, 04, 05, 06, 07, and 5 more"):
        files.read_json(tmp_path, "a.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"data": [\n  1, 2,\n  oops]}', "not JSON: Expecting value at line 3, column 3"),
        (b"", "not JSON: Expecting value at line 1, column 1"),
        (b'{"data": "\xff\xfe"}', "not JSON: UnicodeDecodeError"),
        (b"[" * 200_000, "not JSON: RecursionError"),
    ],
)
def test_what_is_not_json_says_where(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=said):
        files.read_json(tmp_path, "a.json")


def test_a_folder_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(DataError, match=r"a\.json cannot be read"):
        files.read_json(tmp_path, "a.json")


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"größe": 1}', encoding="utf-8-sig")
    assert files.read_json(tmp_path, "a.json") == {"größe": 1}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "expected an object with 'data', got an empty list"),
        ({"rows": []}, "expected an object with 'data', got keys rows"),
        ({"data": {}}, "'data' should be a list of records, got an object"),
        ({"data": []}, "'data' should be a list of records, got an empty list"),
        ({"data": [{}, 7]}, "record 1 should be an object, got 7"),
    ],
)
def test_the_shape_of_a_document(document: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        files.record_list(document, "a.json", "data")


@pytest.mark.parametrize("name", ["../a", "a/b", "a\\b", "..", "", "a\0", "/etc/passwd", "C:a"])
def test_names_that_leave_the_folder(name: str) -> None:
    with pytest.raises(DataError, match="no plain file name"):
        files.check_name(name, "record 0")


def test_names_that_stay() -> None:
    for name in ("003a8ae2ef43b901", "0000", "a.b", "n-1_x", "bild ü"):
        assert files.check_name(name, "record 0") == name


def test_data_folder(tmp_path: Path) -> None:
    assert files.data_folder(str(tmp_path), "a.json") == tmp_path
    with pytest.raises(DataError, match=r"needs --data DIR, a folder with a\.json"):
        files.data_folder(None, "a.json")
    with pytest.raises(DataError, match="does not exist"):
        files.data_folder(str(tmp_path / "none"), "a.json")


def test_a_vanished_image_names_no_folder(tmp_path: Path) -> None:
    image = files.image_file(tmp_path, "1.jpg")
    (tmp_path / "1.jpg").write_bytes(b"data")
    assert image.read() == b"data"
    (tmp_path / "1.jpg").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        image.read()
    assert str(tmp_path) not in str(caught.value)
    assert "1.jpg" in str(caught.value)


def test_files_in_a_folder_of_35_000(tmp_path: Path) -> None:
    for number in range(35_000):
        os.close(os.open(tmp_path / f"{number:016x}.jpg", os.O_CREAT))
    (tmp_path / "folder.jpg").mkdir()
    start = time.perf_counter()
    there = files.files_in(tmp_path)
    assert time.perf_counter() - start < 2  # 0.03 s on an idle core
    assert len(there) == 35_000


def test_a_folder_of_pictures_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert files.files_in(tmp_path / "gone") == frozenset()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"the image folder file/ cannot be read in .*there: file"):
        files.files_in(tmp_path / "file")


def sample(**changes: object) -> Sample:
    fields = {"id": "1", "images": (Image("a.jpg", bytes),), "question": "q", "target": ("x", "y")}
    return Sample(**{**fields, **changes})  # type: ignore[arg-type]


def test_digest_changes_with_whatever_is_asked() -> None:
    """By hand: one JSON list a line."""
    line = '["1", "q", [], "", ["x", "y"], ["a.jpg"]]\n'
    assert files.digest([sample()]) == hashlib.sha256(line.encode()).hexdigest()
    others = [
        sample(id="2"),
        sample(question="Q"),
        sample(target=("y", "x")),
        sample(target=None),
        sample(images=(Image("b.jpg", bytes),)),
        sample(options=("A",)),
        sample(context="c"),
    ]
    found = {files.digest([one]) for one in (sample(), *others)}
    assert len(found) == len(others) + 1
    assert files.digest([sample(), others[0]]) != files.digest([others[0], sample()])
    assert files.digest([sample(cluster="z")]) == files.digest([sample()])
