"""DOCCI: both layouts, odd records, prompts, and runs to the end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docci_layout
import pytest
import sacrebleu
from docci_layout import RECORDS, TEXTS, Record, jpeg, original, record, row
from pgbench_tasks.docci import TASK

from pgbench.cli import invoke
from pgbench.errors import DataError, UsageError
from pgbench.samples import read_lines
from pgbench.types import DataRequest, Dataset, Kind, Profile, Sample


def from_files(folder: Path, split: str = "test") -> Dataset:
    return TASK.sources["files"](DataRequest(split, path=str(folder)))


def from_hub(folder: Path, split: str = "test", name: str | None = None) -> Dataset:
    return TASK.sources["hub"](DataRequest(split, path=str(folder), id=name))


# --- data


def test_the_original_layout(tmp_path: Path) -> None:
    data = from_files(original(tmp_path / "d"))
    assert [one.id for one in data.samples] == ["test_00000", "test_00001", "test_00002"]
    assert [one.target for one in data.samples] == list(TEXTS)
    assert "\u2028" in str(data.samples[1].target)
    assert data.samples[2].images[0].name == "test_00002.jpg"
    assert data.samples[2].images[0].read() == jpeg(27)
    assert len({one.cluster for one in data.samples}) == 3
    assert (data.id, data.revision, data.missing) == ("docci_descriptions.jsonlines", None, ())


@pytest.mark.parametrize(("split", "found"), [("qual_dev", "qual_dev_00000"), ("train", "train_00000")])
def test_a_split_is_what_its_field_and_its_prefix_say(tmp_path: Path, split: str, found: str) -> None:
    stray = {**record(7), "split": split}  # docci.py leaves it out of either split
    folder = original(tmp_path / "d", [*RECORDS, stray])
    assert [one.id for one in from_files(folder, split).samples] == [found]
    assert len(from_files(folder).samples) == 3


def test_blank_lines_and_carriage_returns_are_passed_over(tmp_path: Path) -> None:
    folder = original(tmp_path / "d", RECORDS, ["", "  \r", json.dumps(record(5, image_file="x.jpg")) + "\r"])
    data = from_files(folder)
    assert data.samples[-1].id == "test_00005"
    assert data.missing == ("test_00005",)


def test_a_lost_image_is_told(tmp_path: Path) -> None:
    folder = original(tmp_path / "d")
    (folder / "images" / "test_00001.jpg").unlink()
    assert from_files(folder).missing == ("test_00001",)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{", "line 7 is not JSON: Expecting property name.*download it again"),
        ("[]", "line 7 should be an object, got an empty list"),
        ('{"example_id": ' + "9" * 5000 + "}", "line 7 is not JSON: ValueError; download it again"),
        (json.dumps(record(1)), "id test_00001 occurs twice"),
        (json.dumps(record(8, description=...)), "line 7: field 'description' is missing"),
        (json.dumps(record(8, description=" ")), r"line 7 \(test_00008\): field 'description' is empty"),
        (json.dumps(record(8, description="\ud800")), "half a surrogate"),
        (json.dumps(record(8, image_file="../x.jpg")), "no plain file name"),
        (json.dumps(record(8, example_id="test_/x")), "no plain file name"),
        (json.dumps({**record(8), "split": 3}), "field 'split' should be text, got 3"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: str, said: str) -> None:
    folder = original(tmp_path / "d", RECORDS, [bad])
    with pytest.raises(DataError, match=said) as caught:
        from_files(folder)
    assert "\n" not in str(caught.value)


def test_what_a_data_folder_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"docci_descriptions\.jsonlines and images/"):
        TASK.sources["files"](DataRequest("test"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"docci_descriptions\.jsonlines is not in .*there: nothing"):
        from_files(tmp_path / "empty")
    folder = original(tmp_path / "d", RECORDS[:1])
    with pytest.raises(DataError, match="no records of split test; there: train 1"):
        from_files(folder)
    with pytest.raises(DataError, match=r"unknown split of docci 'qualdev'; did you mean qual_dev"):
        from_files(folder, "qualdev")


def test_the_hub_layout_is_the_same_data(tmp_path: Path) -> None:
    rows = [row(number) for number in range(3)]
    data = from_hub(docci_layout.hub(tmp_path / "h", rows))
    files = from_files(original(tmp_path / "d"))
    assert data.digest == files.digest
    assert data.samples[1].images[0].read() == jpeg(9)
    assert [one.cluster for one in data.samples] == [one.cluster for one in files.samples]


def test_a_null_image_on_the_hub_is_missing(tmp_path: Path) -> None:
    folder = docci_layout.hub(tmp_path / "h", [row(0), row(1, image=None)])
    assert from_hub(folder).missing == ("test_00001",)


def test_a_file_of_another_split_is_refused(tmp_path: Path) -> None:
    folder = docci_layout.hub(tmp_path / "h", [row(0, "train")])
    with pytest.raises(DataError, match="'train_00000' is not of split test; name the split of this file"):
        from_hub(folder)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (
            DataRequest("test", id="google/docci"),
            "is a script, which datasets>=4 does not run; take not-lain/d",
        ),
        (DataRequest("qual_dev"), "not-lain/docci has no qual_dev, only test and train; take --source files"),
        (DataRequest("qual_test", id="not-lain/docci"), "has no qual_test"),
    ],
)
def test_what_no_hub_has_is_said_before_a_download(request_: DataRequest, said: str) -> None:
    with pytest.raises(DataError, match=said):
        TASK.sources["hub"](request_)


# --- prompts


@pytest.mark.parametrize(
    ("kind", "family", "asked"),
    [
        ("pt", "paligemma2", "caption en"),
        ("ft", "paligemma2", "caption en"),
        ("mix", "paligemma2", "describe en"),
        ("pt", "paligemma", "caption en"),
        ("mix", "paligemma", "caption en"),
        ("chat", "paligemma", "Describe this image in detail."),
    ],
)
def test_the_prompt_follows_the_kind(kind: Kind, family: Any, asked: str) -> None:
    assert TASK.prompt(Sample("1", (), "", "x"), Profile(kind, family), "default") == asked


def test_there_is_no_official_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="leave out --prompt-style official"):
        TASK.prompt(Sample("1", (), "", "x"), Profile("mix", "paligemma2", style="official"), "default")
    where = ["--data", str(original(tmp_path / "d")), "--out", str(tmp_path / "out")]
    command = ["run", "--task", "docci", "--model", "tiny-gemma2", "--prompt-style", "official", *where]
    assert invoke(command) == 2
    assert "docci has no prompt by its authors" in capsys.readouterr().err


# --- end to end


def hub_folder(folder: Path) -> Path:
    return docci_layout.hub(folder, [row(0), row(1), row(2, image=None)])


def files_folder(folder: Path) -> Path:
    (original(folder) / "images" / "test_00002.jpg").unlink()
    return folder


@pytest.mark.parametrize(("source", "build"), [("hub", hub_folder), ("files", files_folder)])
def test_the_oracle_to_the_end(
    source: str, build: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The third picture is lost, so its caption is empty: computed by the library from the same texts."""
    where = ["--source", source, "--data", str(build(tmp_path / "d")), "--out", str(tmp_path / "out")]
    command = ["run", "--task", "docci", "--backend", "oracle", "--max-failures", "1", "--json", *where]
    assert invoke(command) == 0
    found = json.loads(capsys.readouterr().out)["record"]["scores"]
    said, known = [*TEXTS[:2], ""], [list(TEXTS)]
    assert found["chrf"]["value"] == sacrebleu.corpus_chrf(said, known).score / 100
    assert found["bleu"]["value"] == sacrebleu.corpus_bleu(said, known).score / 100
    assert found["chars"]["value"] == (len(TEXTS[0]) + len(TEXTS[1])) / 3
    assert all((one["n"], one["failed"], one["clusters"]) == (3, 1, 3) for one in found.values())


@pytest.mark.parametrize("source", ["hub", "files"])
def test_a_checkpoint_answers(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[Record] = [row(0), row(1)]
    folder = docci_layout.hub(tmp_path / "d", rows) if source == "hub" else original(tmp_path / "d")
    where = ["--source", source, "--data", str(folder), "--out", str(tmp_path / "out"), "--limit", "2"]
    command = ["run", "--task", "docci", "--model", "tiny-gemma2", "--dtype", "float32", "--json", *where]
    assert invoke(command) == 0
    record_ = json.loads(capsys.readouterr().out)["record"]
    assert (record_["spec"]["max_new_tokens"], record_["scores"]["chrf"]["n"]) == (192, 2)
    (found,) = (tmp_path / "out").rglob("record.json")
    lines = list(read_lines(found.parent))
    assert len(lines) == 2
    assert all(line.prompt.rstrip() in ("caption en", "describe en") for line in lines)


def test_the_task_is_complete() -> None:
    assert (TASK.name, TASK.version, TASK.max_new_tokens) == ("docci", 1, 192)
    assert list(TASK.splits.items()) == [
        ("test", 5000),
        ("qual_dev", 100),
        ("qual_test", 100),
        ("train", 9647),
    ]
    assert TASK.cite.count("{") == TASK.cite.count("}")


def test_importing_the_task_is_light() -> None:
    heavy = {"torch", "datasets", "numpy", "PIL", "pysbd", "sacrebleu"}
    code = f"import sys, pgbench_tasks.docci\nprint({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"
