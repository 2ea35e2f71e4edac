"""Every shipped benchmark, from every source in its published schema, to the end: ceiling, floor, a model.

The expected scores are worked out by hand from the few records below, not by the metrics. In each set the
picture of one question is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cmmmu_layout
import docci_layout
import gqa_layout
import mmmu_layout
import mmvp_layout
import pope_layout
import pytest
import sacrebleu
import scienceqa_layout
import textvqa_layout
import vqav2_layout

from pgbench.cli import invoke
from pgbench.registry import load_task, task_names
from pgbench.samples import read_lines


@dataclass(frozen=True, slots=True)
class Case:
    """A benchmark of a few records, and what it must score."""

    task: str
    source: str
    build: Callable[[Path], Path]
    n: int  # scored, the one without its picture among them
    lost: str  # the sample whose picture is missing
    ceiling: float  # of the primary metric, the lost sample being wrong
    empty: float  # when every answer is the empty text; answers made elsewhere need no picture
    flags: tuple[str, ...] = ()
    prompts: dict[str, str] = field(default_factory=dict)  # sample -> what a checkpoint is asked

    def arguments(self, tmp_path: Path) -> list[str]:
        where = self.build(tmp_path / "data")
        named = ["--task", self.task, "--source", self.source, "--data", str(where)]
        return [*named, *self.flags, "--max-failures", "1", "--out", str(tmp_path / "out"), "--json"]


def lose(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).unlink()
    return folder


# --- TextVQA: hexadecimal image names with leading zeros, questions in quotes and German, two without answers

TEXTVQA_PROMPTS = {"34603": "answer en was steht auf dem Schild für „Größe“?"}
NO_IMAGE = {"bytes": None, "path": None}


def textvqa_files(folder: Path) -> Path:
    return lose(textvqa_layout.original(folder, textvqa_layout.RECORDS), "train_images/0000000000000000.jpg")


def textvqa_hub(folder: Path) -> Path:
    rows = [
        {**one, **({"image": None} if one["question_id"] == 34604 else {})} for one in textvqa_layout.RECORDS
    ]
    return textvqa_layout.parquet(folder / "validation-0.parquet", rows).parent


# --- VQAv2: eight of ten people agree, and the two others say something else


VQAV2 = [vqav2_layout.question(262148000 + k) for k in range(3)] + [
    vqav2_layout.question(9000, question="图?")
]
VQAV2_KNOWN = [
    vqav2_layout.annotation(262148000, answers=vqav2_layout.answers(*["down"] * 8, "up")),
    vqav2_layout.annotation(262148001, answers=vqav2_layout.answers("yes"), answer_type="yes/no"),
    # two people at most: 3/10 of the subsets leave one of them out, so the best answer is worth 0.6
    vqav2_layout.annotation(262148002, answers=vqav2_layout.answers(*"aabbccdde", "e"), answer_type="number"),
    vqav2_layout.annotation(9000),
]


def vqav2_files(folder: Path) -> Path:
    return lose(vqav2_layout.original(folder, VQAV2, VQAV2_KNOWN), "val2014/COCO_val2014_000000000009.jpg")


def vqav2_hub(folder: Path) -> Path:
    rows = [*VQAV2[:3], {**VQAV2[3], "image": None}]
    return vqav2_layout.parquet(folder / "validation-0.parquet", rows, VQAV2_KNOWN).parent


# --- GQA: ids with leading zeros, an image named n..., a reply of one letter


def gqa_files(folder: Path) -> Path:
    records = dict(gqa_layout.BALANCED) | {"00000007": gqa_layout.record("0012", "Is it there?", "no")}
    return lose(gqa_layout.original(folder, records), "images/0012.jpg")


def gqa_hub(folder: Path) -> Path:
    return gqa_layout.hub(folder, lost=("2354786",))


# --- POPE: JSON Lines called .json; six questions to a picture in each of three settings


def pope_files(folder: Path) -> Path:
    extra = pope_layout.record(13, image="COCO_val2014_000000999999.jpg")
    rows = [pope_layout.record(number) for number in range(1, 13)]
    return lose(
        pope_layout.original(folder, random=[*rows, extra], adversarial=rows),
        "val2014/" + str(extra["image"]),
    )


def pope_hub(folder: Path) -> Path:
    folder.mkdir()
    rows = [
        pope_layout.hub_row(setting, number)
        for setting in ("adversarial", "popular", "random")
        for number in range(1, 13)
    ]
    lost = pope_layout.hub_row("random", 13, image_source="COCO_val2014_000000999999", image=NO_IMAGE)
    pope_layout.hub(folder / "test-0.parquet", [*rows, lost])
    return folder


# --- MMVP: pictures named by number, which a folder lists as 1, 10, 11, ..., 2


def mmvp_files(folder: Path) -> Path:
    rows = [mmvp_layout.row(number) for number in range(1, 13)]
    return lose(mmvp_layout.original(folder, rows), "MMVP Images/12.jpg")


def mmvp_hub(folder: Path) -> Path:
    folder.mkdir()
    rows = [mmvp_layout.row(number) for number in range(1, 12)]
    mmvp_layout.hub(folder / "train-0.parquet", [*rows, mmvp_layout.row(12, image=NO_IMAGE)])
    return folder


# --- MMMU: options as a list in a text, list answers, null pictures, Chinese, no answer


def mmmu_hub(folder: Path) -> Path:
    return mmmu_layout.parquet(folder, mmmu_layout.ROWS[:4] + mmmu_layout.ROWS[5:6] + [MMMU_LOST])


MMMU_LOST = mmmu_layout.row("validation_Music_2", image_1=None)


# --- CMMMU: options with spaces at their ends, numbers as ids, pictures beside the lines


CMMMU = [one for one in cmmmu_layout.RECORDS if one["id"] not in (13, 14)] + [cmmmu_layout.record(77)]


def cmmmu_files(folder: Path) -> Path:
    cmmmu_layout.original(folder, CMMMU)
    return lose(folder, "cmmmu-data-val/art_and_design/q_00077_001.jpg")


def cmmmu_hub(folder: Path) -> Path:
    return cmmmu_layout.parquet(folder, [*CMMMU[:-1], {**CMMMU[-1], "img_list": []}])


# --- ScienceQA: numbers as text, passages with line breaks, five choices


def scienceqa_files(folder: Path) -> Path:
    return lose(scienceqa_layout.original(folder, scienceqa_layout.PROBLEMS), "test/12/image.png")


def scienceqa_hub(folder: Path) -> Path:
    records = [dict(scienceqa_layout.PROBLEMS[one]) for one in scienceqa_layout.TEST]
    records[-1]["image"] = {"bytes": None, "path": "image.png"}
    return scienceqa_layout.parquet(folder / "ScienceQA-IMG/test-0.parquet", records).parents[1]


# --- DOCCI: JSON Lines with a line separator inside a text, other splits in the same file


def docci_files(folder: Path) -> Path:
    return lose(docci_layout.original(folder), "images/test_00002.jpg")


def docci_hub(folder: Path) -> Path:
    rows = [docci_layout.row(0), docci_layout.row(1), docci_layout.row(2, image=NO_IMAGE)]
    return docci_layout.hub(folder, rows)


# the lost picture's caption is an empty one
DOCCI = sacrebleu.corpus_chrf([*docci_layout.TEXTS[:2], ""], [list(docci_layout.TEXTS)]).score / 100

CASES = [
    Case("textvqa", "files", textvqa_files, 3, "34604", 2 / 3, 0, prompts=TEXTVQA_PROMPTS),
    Case("textvqa", "hub", textvqa_hub, 3, "34604", 2 / 3, 0, prompts=TEXTVQA_PROMPTS),
    # empty: the article "a", which two of ten gave, is empty too once it is normalised
    Case("vqav2", "files", vqav2_files, 4, "9000", (1 + 1 + 0.6 + 0) / 4, 0.6 / 4),
    Case("vqav2", "hub", vqav2_hub, 4, "9000", (1 + 1 + 0.6 + 0) / 4, 0.6 / 4),
    Case(
        "gqa", "files", gqa_files, 5, "00000007", 4 / 5, 0, prompts={"7333409": "answer en What do the pipe"}
    ),
    Case("gqa", "hub", gqa_hub, 4, "02930152", 3 / 4, 0),
    # the random setting has 13 questions, one of them lost; an empty answer is a yes: 7 of 13 and 6 of 12
    Case("pope", "files", pope_files, 37, "random-13", (12 / 13 + 1 + 1) / 3, (7 / 13 + 0.5 + 0.5) / 3),
    Case("pope", "hub", pope_hub, 37, "random-13", (12 / 13 + 1 + 1) / 3, (7 / 13 + 0.5 + 0.5) / 3),
    Case("mmvp", "files", mmvp_files, 12, "12", 5 / 6, 0),
    Case("mmvp", "hub", mmvp_hub, 12, "12", 5 / 6, 0),
    # empty: a guess among four options thrice, among nine once; the open answers are wrong
    Case(
        "mmmu", "hub", mmmu_hub, 6, "validation_Music_2", 5 / 6, (1 / 4 + 1 / 4 + 0 + 0 + 1 / 9 + 1 / 4) / 6
    ),
    # empty: choices are wrong without a guess, a true or false question is guessed, a blank is wrong
    Case("cmmmu", "files", cmmmu_files, 5, "77", 4 / 5, (0 + 0 + 1 / 2 + 0 + 0) / 5),
    Case("cmmmu", "hub", cmmmu_hub, 5, "77", 4 / 5, (0 + 0 + 1 / 2 + 0 + 0) / 5),
    Case("docci", "files", docci_files, 3, "test_00002", DOCCI, 0, prompts={"test_00000": "caption en"}),
    Case("docci", "hub", docci_hub, 3, "test_00002", DOCCI, 0, prompts={"test_00000": "caption en"}),
    Case("scienceqa", "files", scienceqa_files, 4, "12", 3 / 4, (1 / 4 + 1 / 5 + 1 / 4 + 1 / 4) / 4),
    Case("scienceqa", "hub", scienceqa_hub, 4, "", 3 / 4, (1 / 4 + 1 / 5 + 1 / 4 + 1 / 4) / 4),
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case.task}-{case.source}")
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets-cache")
    found: Case = request.param
    return found


def ran(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[dict[str, object], Path]:
    assert invoke(arguments) == 0, capsys.readouterr().err
    document = json.loads(capsys.readouterr().out)
    return document["record"], Path(document["run"])


def primary(record: dict[str, object]) -> dict[str, object]:
    scores = record["scores"]
    assert isinstance(scores, dict)
    found: dict[str, object] = scores[record["primary"]]
    return found


def test_ceiling_and_floor(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = case.arguments(tmp_path)
    record, folder = ran(capsys, ["run", *arguments, "--backend", "oracle"])
    score = primary(record)
    assert (score["value"], score["n"], score["failed"]) == (pytest.approx(case.ceiling), case.n, 1)
    lines = list(read_lines(folder))
    (lost,) = [line.id for line in lines if line.error is not None]
    assert lost == case.lost or not case.lost
    (tmp_path / "empty.json").write_text(json.dumps({line.id: "" for line in lines}))
    record, _ = ran(
        capsys, ["run", *arguments, "--backend", "replay", "--predictions", str(tmp_path / "empty.json")]
    )
    score = primary(record)
    assert (score["value"], score["n"], score["failed"]) == (pytest.approx(case.empty), case.n, 0)


def test_a_checkpoint_answers(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", "tiny-gemma2", "--dtype", "float32"]
    record, folder = ran(capsys, ["run", *case.arguments(tmp_path), *model])
    assert record["status"] == "failures"
    lines = {line.id: line for line in read_lines(folder)}
    assert [line.error for line in lines.values() if line.error] == ["the image is missing"]
    assert all(line.error or line.tokens for line in lines.values())
    for one, asked in case.prompts.items():
        assert lines[one].prompt.startswith(asked)


def test_no_task_is_left_out() -> None:
    """Each source of each task but the drawn ones and people's own data, which have tests of their own."""
    wanted = {
        (name, source)
        for name in task_names()
        for source in load_task(name).sources
        if source != "demo" and name != "custom"
    }
    assert {(case.task, case.source) for case in CASES} == wanted
