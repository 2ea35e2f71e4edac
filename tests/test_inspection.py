"""`pgbench data check`: every picture is decoded, and what is wrong is named before hours are spent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_every_task as every
import textvqa_layout
from textvqa_layout import RECORDS, jpeg, original, record

from pgbench.cli import invoke
from pgbench.inspection import AHEAD, THREADS, inspect, spread
from pgbench.types import Dataset, Image, Sample

Capture = pytest.CaptureFixture[str]
CHECK = ["data", "check", "--task", "textvqa"]


@pytest.fixture
def six(monkeypatch: pytest.MonkeyPatch) -> None:
    """TextVQA as if five questions had been published."""
    from pgbench_tasks import textvqa

    monkeypatch.setitem(textvqa.SPLITS, "val", 5)


def document(capsys: Capture, *arguments: str, code: int = 0) -> Any:
    assert invoke([*arguments, "--json"]) == code, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("six")
def test_good_data_is_counted_and_passes(tmp_path: Path, capsys: Capture) -> None:
    found = document(capsys, *CHECK, "--data", str(original(tmp_path / "d", RECORDS)))
    assert (found["samples"], found["published"], found["fine"]) == (5, 5, True)
    assert (found["pictures"], found["opened"], found["clusters"]) == (4, 4, 4)  # two questions share one
    assert (found["unreferenced"], found["without_image"]) == (2, 0)
    assert (found["missing"], found["unreadable"]) == ([], [])
    assert (found["source"], found["id"]) == ("files", "TextVQA_0.5.1_val.json")
    assert invoke([*CHECK, "--data", str(tmp_path / "d")]) == 0
    said = capsys.readouterr().out
    assert "5 (5 published)" in said
    assert "4 stored, 4 decoded" in said
    assert found["digest"] in said


@pytest.mark.usefixtures("six")
def test_rows_of_parquet_are_copies_of_their_own(tmp_path: Path, capsys: Capture) -> None:
    """The second row's copy of a shared picture is damaged; the first one's is not."""
    broken = {**RECORDS[1], "image": {"bytes": jpeg(9)[:-60], "path": None}}
    path = textvqa_layout.parquet(tmp_path / "validation-0.parquet", [RECORDS[0], broken, *RECORDS[2:]])
    found = document(capsys, *CHECK, "--data", str(path), code=3)
    assert (found["source"], found["pictures"], found["clusters"]) == ("hub", 5, 4)
    assert [one["sample_id"] for one in found["unreadable"]] == ["34603"]


def test_what_is_wrong_is_listed_with_what_to_do(tmp_path: Path, capsys: Capture) -> None:
    records = [record(n) for n in range(14)] + [record(99, question=" "), record(100), record(101)]
    folder = original(tmp_path / "d", records)
    images = folder / "train_images"
    for number in range(12):
        (images / f"{number:016x}.jpg").unlink()
    (images / f"{12:016x}.jpg").write_bytes(jpeg(3)[:-20])
    (images / f"{13:016x}.jpg").write_bytes(b"")
    found = document(capsys, *CHECK, "--data", str(folder), code=3)
    assert [one["sample_id"] for one in found["unreadable"]] == ["12", "13"]
    assert found["unreadable"][0]["reason"].startswith("JPEG image")
    assert found["unreadable"][1]["reason"] == "the image file has 0 bytes"
    assert len(found["missing"]) == 12
    assert found["blank_questions"] == ["99"]
    assert (found["pictures"], found["opened"]) == (5, 5)
    assert invoke([*CHECK, "--data", str(folder)]) == 3
    captured = capsys.readouterr()
    assert "missing (12, the first 10):" in captured.out
    assert f"    9: {9:016x}.jpg" in captured.out
    assert f"    10: {10:016x}.jpg" not in captured.out
    (line,) = [line for line in captured.err.splitlines() if line.startswith("pgbench: ")]
    assert "17 samples, split val has 5,000 as published; 12 samples without their picture; 2 unread" in line
    assert "--max-failures 14" in line


def test_a_link_in_a_circle_is_one_missing_picture(tmp_path: Path, capsys: Capture) -> None:
    folder = original(tmp_path / "d", [record(1), record(2)])
    picture = folder / "train_images" / f"{1:016x}.jpg"
    picture.unlink()
    picture.symlink_to(picture)
    assert document(capsys, *CHECK, "--data", str(folder), code=3)["missing"] == [f"1: {picture.name}"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([record(1), record(1)], "id 1 occurs twice"),
        ([record(True)], "should be a whole number"),
        ([record(1, image_id="../x")], "no plain file name"),
    ],
)
def test_what_the_loader_refuses_exits_with_2(
    tmp_path: Path, capsys: Capture, bad: list[textvqa_layout.Record], said: str
) -> None:
    assert invoke([*CHECK, "--data", str(original(tmp_path / "d", bad))]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err


def test_hostile_names_cannot_steer_the_terminal(tmp_path: Path, capsys: Capture) -> None:
    folder = original(tmp_path / "d", [record(1, image_id="\x1b[31mred\u202e")])
    (folder / "train_images" / "\x1b[31mred\u202e.jpg").write_bytes(b"GIF89a")
    assert invoke([*CHECK, "--data", str(folder)]) == 3
    captured = capsys.readouterr()
    assert "\\x1b[31mred\\u202e.jpg" in captured.out
    assert "\x1b" not in captured.out + captured.err


@pytest.mark.parametrize(("images", "opened"), [("2", 2), ("all", 4), ("900", 4), ("0", 0)])
def test_a_part_of_the_pictures(tmp_path: Path, capsys: Capture, images: str, opened: int) -> None:
    folder = original(tmp_path / "d", RECORDS)
    found = document(capsys, *CHECK, "--data", str(folder), "--images", images, code=3)
    assert found["opened"] == opened


@pytest.mark.parametrize("images", ["some", "-1", "1.5", ""])
def test_not_a_number_of_pictures(tmp_path: Path, capsys: Capture, images: str) -> None:
    assert invoke([*CHECK, "--data", str(tmp_path), f"--images={images}"]) == 2
    assert "is no number; expected all" in capsys.readouterr().err


def test_drawings_are_not_held_against_the_published_size(capsys: Capture) -> None:
    found = document(capsys, *CHECK, "--source", "demo", "--images", "3")
    assert (found["published"], found["opened"], found["demo"]) == (None, 3, True)


@pytest.mark.parametrize("case", every.CASES, ids=lambda case: f"{case.task}-{case.source}")
def test_every_task_from_every_source(case: every.Case, tmp_path: Path, capsys: Capture) -> None:
    """Each set lacks the picture of one sample; all others decode."""
    where = case.build(tmp_path / "data")
    flags = [*("--task", case.task, "--source", case.source, "--data", str(where)), *case.flags]
    found = document(capsys, "data", "check", *flags, code=3)
    (lost,) = found["missing"]
    assert lost.partition(":")[0].startswith(case.lost)  # ScienceQA's hub copy has ids of its own making
    assert found["unreadable"] == []
    assert found["opened"] == found["pictures"] > 0


# The work itself


def many(count: int, read: Any, take: Callable[[], None] = lambda: None) -> Dataset:
    """As many samples as asked for, made when they are looked at."""

    class Lazy(Sequence[Sample]):
        def __len__(self) -> int:
            return count

        def __getitem__(self, index: Any) -> Any:
            if not 0 <= index < count:
                raise IndexError
            take()
            return Sample(str(index), (Image(f"{index}.jpg", read),), "what?", "x")

    return Dataset(Lazy(), "0" * 64, "many")


def test_pictures_in_flight_are_bounded() -> None:
    """However slow decoding is, samples are not taken up far ahead of it."""
    lock, taken, done, ahead = threading.Lock(), 0, 0, 0

    def read() -> bytes:
        nonlocal done
        time.sleep(0.001)
        with lock:
            done += 1
        return jpeg(1)

    def take() -> None:
        nonlocal taken, ahead
        taken += 1
        with lock:
            ahead = max(ahead, taken - 300 - done)  # the survey takes each sample once, too

    found = inspect(many(300, read, take), 300, limit=None)
    assert (found.opened, found.unreadable, found.fine) == (300, (), True)
    assert 0 < ahead <= THREADS * (AHEAD + 1)


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[int, int]] = []
    inspect(many(40, lambda: jpeg(1)), None, limit=30, progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (30, 30)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_reader_that_raises_anything_is_told() -> None:
    def read() -> bytes:
        raise KeyError("row")

    (one, *_) = inspect(many(1, read), None, limit=None).unreadable
    assert "KeyError" in one.reason
    assert "\n" not in one.reason


def test_a_subset_is_spread_evenly() -> None:
    items = [(n, 0) for n in range(10)]
    assert [n for n, _ in spread(items, 5)] == [0, 2, 4, 6, 8]
    assert [n for n, _ in spread(items, 3)] == [0, 3, 6]
    assert spread(items, 11) == spread(items, None) == items
    assert spread(items, 0) == []


def test_fine_needs_all_three() -> None:
    good = inspect(many(2, lambda: jpeg(1)), 2, limit=None)
    assert good.fine
    assert replace(good, published=None).fine
    assert not replace(good, published=3).fine
    assert not replace(good, missing=("1: x",)).fine
    assert not replace(good, unreadable=inspect(many(1, lambda: b""), None, limit=None).unreadable).fine
