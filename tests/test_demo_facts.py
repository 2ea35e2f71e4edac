"""NES of drawn captions, exact: each sentence is held against all there is to say of its scene."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import drawn_truth as truth
import pytest
from caption_runs import caption_run

from pgbench.cli import invoke
from pgbench.demo import world
from pgbench.demo.benchmarks import facts
from pgbench.demo.questions import sentences
from pgbench.registry import load_task
from pgbench.store import read_record
from pgbench.sweeping.reopening import data_of
from pgbench.types import DataRequest

Capture = pytest.CaptureFixture[str]
SAMPLES = load_task("docci").sources["demo"](DataRequest("test")).samples
LIMIT = 12


def ran(capsys: Capture, *arguments: str) -> Path:
    assert invoke(["run", "--task", "docci", "--source", "demo", "--json", *arguments]) == 0
    return Path(json.loads(capsys.readouterr().out)["run"])


def judged(capsys: Capture, run: Path) -> dict[str, Any]:
    assert invoke(["nes", "judge", str(run), "--judge", "facts", "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_every_sentence_of_any_scene_is_judged_as_its_pixels_say() -> None:
    """Each sentence of each of 40 scenes, before each of these scenes."""
    scenes = [world.scene("test", number) for number in range(4_000, 4_040)]
    verdicts = set()
    for scene, other in itertools.product(scenes, scenes):
        reference = " ".join(sentences(scene))
        for sentence in sentences(other):
            verdict = facts.truth(sentence, reference)
            assert verdict == ("entailment" if truth.says(scene, sentence) else "contradiction")
            verdicts.add(verdict)
    assert verdicts == {"entailment", "contradiction"}


@pytest.mark.parametrize(
    ("sentence", "verdict"),
    [
        ("A small red circle is in the top left.", "entailment"),
        ("  A small red  circle is in the top left. ", "entailment"),
        ("A large red circle is in the top left.", "contradiction"),
        ("A small red circle is in the bottom left.", "contradiction"),
        ("The sign says ST. The label says 5.", "entailment"),
        ("The sign says ST. The label says 6.", "contradiction"),
        ("The sign says ST. How nice.", "neutral"),
        ("The label says ST.", "contradiction"),
        ("A small red circle", "neutral"),
        ("a small red circle is in the top left.", "neutral"),
        ("A small pink circle is in the top left.", "neutral"),
    ],
)
def test_what_is_true(sentence: str, verdict: str) -> None:
    reference = "A small red circle is in the top left. The sign says ST. The label says 5."
    assert facts.truth(sentence, reference) == verdict


def test_references_have_no_false_sentence(tmp_path: Path, capsys: Capture) -> None:
    run = ran(capsys, "--backend", "oracle", "--limit", str(LIMIT), "--out", str(tmp_path))
    (found,) = judged(capsys, run)["runs"]
    assert found["share"]["value"] == 0
    assert set(found["labels"]) == {"entailment"}
    assert found["judge"]["name"] == "facts of drawings"


def test_nes_counts_the_false_sentences(tmp_path: Path, capsys: Capture) -> None:
    """Of each caption, the first sentence is moved to another colour, and a remark is put behind."""
    captions, wrong, whole = {}, 0, 0
    for sample in SAMPLES:
        scene, told = truth.scene_of(sample), re.split(r"(?<=\.) ", str(sample.target))
        told[0] = told[0].replace(scene.things[0].colour, "black" if len(sample.id) % 2 else "red")
        told.append("What a nice picture.")
        captions[sample.id] = " ".join(told)
        wrong += 1 + (not truth.says(scene, told[0]))
        whole += len(told)
    (tmp_path / "said.json").write_text(json.dumps(captions))
    run = ran(
        capsys,
        *("--backend", "replay", "--predictions", str(tmp_path / "said.json"), "--out", str(tmp_path / "o")),
    )
    document = judged(capsys, run)
    (found,) = document["runs"]
    merged = whole - found["share"]["n"]  # sentences that the splitter did not part
    assert merged <= 0.02 * whole
    assert found["labels"]["neutral"] == len(SAMPLES)
    assert abs(found["share"]["value"] - wrong / whole) < 0.01
    assert "exact for drawings" in document["caveat"]
    assert invoke(["nes", "judge", str(run), "--judge", "facts"]) == 0
    told_out = capsys.readouterr().out
    assert "the facts of the drawings" in told_out
    assert "stands in the reference caption" in told_out


def test_other_captions_are_refused(tmp_path: Path, capsys: Capture) -> None:
    run = caption_run(tmp_path, ["A cat."])
    assert invoke(["nes", "judge", str(run), "--judge", "facts"]) == 2
    said = capsys.readouterr().err
    assert "was not asked about drawn scenes" in said
    assert said.count("\n") == 1


def test_the_facts_have_no_revision(tmp_path: Path, capsys: Capture) -> None:
    run = caption_run(tmp_path, ["A cat."])
    assert invoke(["nes", "judge", str(run), "--judge", "facts", "--revision", "main"]) == 2
    assert "leave out --revision main" in capsys.readouterr().err


def test_a_run_on_the_world_is_judged_again(tmp_path: Path, capsys: Capture) -> None:
    """TextVQA's demo source shows signs unasked: a stored run on the world must find its world again."""
    flags = ["--task", "textvqa", "--backend", "oracle", "--data-id", "world", "--limit", "6"]
    assert invoke(["run", *flags, "--out", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["record"]["spec"]["source"]["id"] == "demo-world"
    assert document["record"]["data"]["demo"]
    assert invoke(["rescore", document["run"], "--json"]) == 0
    record = read_record(Path(document["run"]))
    assert record is not None
    found = data_of(record.spec, load_task("textvqa"), None)
    assert (found.id, found.digest) == ("demo-world", record.data.digest)
