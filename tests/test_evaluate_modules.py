"""The metrics as `evaluate` modules give what pgbench's own scoring gives, offline and in memory."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import golden_cmmmu
import golden_gqa
import golden_mmmu
import golden_pope
import golden_scienceqa
import golden_vqav2
import pytest
from agreement import FOLDER, golden
from pgbench_tasks.mmvp import read_letter, read_options

from pgbench.errors import DataError
from pgbench.metrics.scoring import score
from pgbench.registry import load_task
from pgbench.types import Sample

Case = Mapping[str, Any]
MODULES = Path(importlib.import_module("pgbench.evaluate_modules").__path__[0])
CLASSES = {
    "vqav2": "VQAv2",
    "textvqa": "TextVQA",
    "gqa": "GQA",
    "pope": "POPE",
    "mmvp": "MMVP",
    "mmmu": "MMMU",
    "cmmmu": "CMMMU",
    "scienceqa": "ScienceQA",
    "docci": "DOCCI",
}


@pytest.fixture(scope="module")
def modules_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests: evaluate copies scripts there, and Python keeps the package that they are in."""
    return tmp_path_factory.mktemp("modules")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, modules_cache: Path) -> None:
    import evaluate

    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path / "metrics"))
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(modules_cache))
    monkeypatch.setattr(sys, "path", [*sys.path])


def make(name: str) -> Any:
    return getattr(importlib.import_module(f"pgbench.evaluate_modules.{name}"), CLASSES[name])()


def answers_of(case: Case) -> list[str]:
    return list(golden_vqav2.answers_of(case))


def textvqa(case: Case) -> Sample:
    return Sample(case["id"], (), "", tuple(case["reference"]["answers"]))


def mmmu_reference(case: Case) -> dict[str, Any]:
    one = golden_mmmu.sample(case)
    return {
        "answers": [one.target] if isinstance(one.target, str) else list(one.target or ()),
        "options": list(one.options),
    }


def cmmmu_reference(case: Case) -> dict[str, Any]:
    one = golden_cmmmu.sample(case)
    return {"answer": one.target, "type": one.fields["type"], "options": list(one.options)}


def gqa_reference(case: Case) -> dict[str, Any]:
    one = golden_gqa.sample(case)
    fields = {key: list(value) if isinstance(value, tuple) else value for key, value in one.fields.items()}
    return {"answer": one.target, "id": one.id, "image": one.cluster, **fields}


def pope_reference(case: Case) -> dict[str, Any]:
    return {"label": case["reference"]["label"], "setting": case["reference"]["category"]}


def mmvp(case: Case) -> Sample:
    given = case["reference"]
    options = read_options(given["options"], case["id"])
    return Sample(case["id"], (), "", read_letter(given["correct_answer"], case["id"]), options)


def mmvp_reference(case: Case) -> dict[str, Any]:
    return {"answer": mmvp(case).target, "options": list(mmvp(case).options), "pair": None}


def scienceqa_reference(case: Case) -> dict[str, Any]:
    return {"answer": case["reference"]["answer"], "choices": case["reference"]["choices"]}


SHAPES: dict[str, tuple[Any, Any]] = {  # golden case -> pgbench's own sample, the module's reference
    "vqav2": (golden_vqav2.sample, answers_of),
    "textvqa": (textvqa, lambda case: list(case["reference"]["answers"])),
    "gqa": (golden_gqa.sample, gqa_reference),
    "pope": (golden_pope.sample, pope_reference),
    "mmvp": (mmvp, mmvp_reference),
    "mmmu": (golden_mmmu.sample, mmmu_reference),
    "cmmmu": (golden_cmmmu.sample, cmmmu_reference),
    "scienceqa": (golden_scienceqa._sample, scienceqa_reference),
}


@pytest.mark.parametrize("name", SHAPES)
def test_golden_cases_score_as_in_pgbench(name: str) -> None:
    cases = golden("mmvp_matching" if name == "mmvp" else name, FOLDER)["cases"]
    cases = [case for case in cases if case.get("mode", "response") == "response"]
    sample, reference = SHAPES[name]
    texts = [case["prediction"] for case in cases]
    got = make(name).compute(predictions=texts, references=[reference(case) for case in cases])
    rows = [(sample(case), text) for case, text in zip(cases, texts, strict=True)]
    task = load_task(name)
    wanted = {metric.name: score(metric, rows) for metric in task.metrics}
    assert {key: got[key] for key in wanted} == {key: one.value for key, one in wanted.items()}
    assert got["n"] == len(cases)
    assert got["invalid"] == next(wanted[m.name].invalid for m in task.metrics if m.primary)


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_in_the_folder_is_tested_and_describes_itself(name: str) -> None:
    module, task = make(name), load_task(name)
    assert (module.name, module.citation) == (name, task.cite)
    assert all(metric.source in module.description for metric in task.metrics)
    assert module.compute(predictions=[], references=[])["n"] == 0
    files = {file.stem for file in MODULES.glob("*.py")} - {"__init__", "adapter"}
    assert files == set(CLASSES)


def test_values_of_single_answers_come_along() -> None:
    got = make("vqav2").compute(predictions=["Yes", "no"], references=[["yes"] * 9 + ["no"], ["yes"] * 10])
    assert got["per_sample"] == {"accuracy": [1.0, 0.0], "paper_accuracy": [1.0, 0.0]}
    assert (got["accuracy"], got["n"], got["invalid"]) == (0.5, 2, 0)


def test_captions_of_docci() -> None:
    said, wanted = ["A red car. It is wet.", ""], ["A red car stands in the rain.", "A dog."]
    got = make("docci").compute(predictions=said, references=wanted)
    rows = [(Sample(t, (), "", t), text) for text, t in zip(said, wanted, strict=True)]
    scores = {metric.name: score(metric, rows).value for metric in load_task("docci").metrics}
    assert {name: got[name] for name in scores} == scores
    assert (got["sentences"], got["invalid"]) == (1.0, 1)


def test_pairs_of_mmvp() -> None:
    options = {"options": ["Open", "Closed"]}
    references = [{**options, "answer": one, "pair": pair} for pair in "12" for one in "ab"]
    got = make("mmvp").compute(predictions=["open", "Closed", "open", "open"], references=references)
    assert (got["pair_accuracy"], got["accuracy"]) == (0.5, 0.75)
    assert "pair_accuracy" not in got["per_sample"]


def test_what_gqa_leaves_out_is_undefined() -> None:
    got = make("gqa").compute(predictions=["left", "Left"], references=[{"answer": "left"}] * 2)
    assert (got["accuracy"], got["binary"], got["validity"], got["distribution"]) == (0.5, None, None, None)


def test_one_by_one_and_in_batches() -> None:
    module = make("textvqa")
    module.add(prediction="stop", reference=["stop"] * 10)
    module.add_batch(predictions=["go"], references=[["stop"] * 10])
    assert module.compute()["accuracy"] == 0.5


def test_scripts_load_by_path_and_combine(tmp_path: Path) -> None:
    import evaluate

    loaded = evaluate.load(str(MODULES / "vqav2.py"), keep_in_memory=True)
    both = evaluate.combine([loaded, make("textvqa")])
    got = both.compute(predictions=["2"], references=[["2"] * 10])
    assert got["vqav2_accuracy"] == got["textvqa_accuracy"] == 1.0
    assert [path for path in (tmp_path / "metrics").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", CLASSES)
def test_every_script_can_be_loaded(name: str) -> None:
    import evaluate

    assert evaluate.load(str(MODULES / f"{name}.py"), keep_in_memory=True).name == name


@pytest.mark.parametrize(
    ("predictions", "references"), [([1], [["2"]]), (["2"], [[2]]), (["2"], ["2"]), (["2"], [["2"]] * 2)]
)
def test_wrong_types_are_refused_by_evaluate(predictions: list[Any], references: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"format|expected a list|Mismatch"):
        make("vqav2").compute(predictions=predictions, references=references)


@pytest.mark.parametrize(
    ("name", "reference", "message"),
    [
        ("pope", {"label": "yes", "setting": "odd"}, "sample 0: expected a group 'setting'"),
        ("scienceqa", {"answer": 2, "choices": ["x", "y"]}, "expected the letter of one of"),
        ("cmmmu", {"answer": "A", "type": "choice", "options": ["x"]}, "field 'type' should be"),
        ("vqav2", [], "expected a tuple of answers"),
        ("gqa", {"answer": None}, "sample 0: a reference needs 'answer'"),
        ("pope", {"label": "yes"}, "needs 'setting'"),
        ("pope", {"label": "No", "setting": "random"}, "the label should be 'yes' or 'no', got 'No'"),
        ("mmmu", {"answers": [], "options": ["x", "y"]}, "needs 'answers'"),
        ("mmmu", {"options": ["x", "y"]}, "needs 'answers'"),
        ("mmvp", {"answer": "a", "pair": "1"}, "needs 'options'"),
        ("cmmmu", {"answer": "A", "options": ["x"]}, "needs 'type'"),
        ("scienceqa", {"choices": ["x", "y"]}, "needs 'answer'"),
    ],
)
def test_values_that_cannot_be_scored_say_why(name: str, reference: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make(name).compute(predictions=["yes"], references=[reference])


def test_a_key_that_no_reference_has_is_named() -> None:
    with pytest.raises(ValueError, match="a reference has 'labels'; expected no more than"):
        make("pope").compute(predictions=["yes"], references=[{"labels": "yes", "setting": "random"}])


def test_without_evaluate_the_extra_is_named() -> None:
    code = "import sys; sys.modules['evaluate'] = None; import pgbench.evaluate_modules.pope"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "install it: pip install 'pgbench[evaluate]'" in run.stderr.splitlines()[-1]


def test_naming_the_package_loads_nothing_heavy() -> None:
    code = "import sys, pgbench.evaluate_modules; print({'evaluate', 'datasets'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
