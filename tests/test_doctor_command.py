"""`pgbench doctor`: exit codes, the table and the document, and how a verdict gets into a record."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pgbench import verdicts
from pgbench.backends import identity
from pgbench.cli import invoke
from pgbench.records import Finding, Stack, Verdict
from pgbench.report.doctor_table import document, of_verdict
from pgbench.report.render import terminal
from pgbench.store import plain
from pgbench.types import Checkpoint, Profile

POINT = Checkpoint("tiny", "abc", Profile("mix", "paligemma2"), 56)
STACK = Stack("paligemma", {"torch": "2.13.0", "python": "3.11"}, "cpu", threads=1)
WHOLE = Verdict(
    (
        Finding("layout", True, "as it should be", {"image_tokens": 16.0}),
        Finding("batch", True, "alike", {"equal": 0.98, "n": 100.0, "largest_logit_difference": 0.25}),
        Finding("reload", None, "left out by --one-load"),
    ),
    1.5,
)
BROKEN = Verdict((*WHOLE.findings[:1], Finding("pixels", False, "3 of 255 away"), WHOLE.findings[1]), 2.0)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """A command with --out in a temporary folder: its exit code, stdout and stderr."""

    def of(*arguments: str) -> tuple[int, str, str]:
        code = invoke([*arguments, "--out", str(tmp_path / "runs")])
        return code, *capsys.readouterr()

    return of


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> Callable[[Verdict], list[dict[str, Any]]]:
    """The doctor gives this verdict and loads nothing; returns what it is asked."""
    from pgbench.backends.paligemma import probes

    def gives(verdict: Verdict) -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = []

        def examine(request: Any, **how: Any) -> tuple[Checkpoint, Stack, Verdict]:
            asked.append({"request": request, **how})
            return POINT, STACK, how["known"](POINT, STACK) or verdict

        monkeypatch.setattr(probes, "examine", examine)
        return asked

    return gives


# The command


def test_a_whole_stack_exits_0_with_a_row_a_probe(run: Run, examined: Any) -> None:
    asked = examined(WHOLE)
    code, out, _ = run("doctor", "--model", "tiny-gemma", "--quant", "8bit", "--one-load", "--samples", "7")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "doctor · tiny · bfloat16"
    assert [line.split()[0] for line in lines[5:8]] == ["layout", "batch", "reload"]
    assert "not applicable  left out by --one-load" in lines[7]
    assert "noise floor: 2.0% of 100 answers change with the batch alone" in lines
    assert lines[-1] == "2 of 3 probes passed, 1 not applicable (2 s)"
    (only,) = asked
    assert (only["request"].quant, only["samples"], only["second"]) == ("8bit", 7, False)


def test_a_broken_stack_exits_1_and_names_the_probe(run: Run, examined: Any) -> None:
    examined(BROKEN)
    code, out, _ = run("doctor")
    assert code == 1
    assert out.splitlines()[-1] == "probe pixels is broken: 3 of 255 away (2 s)"


def test_the_document_has_all_figures(run: Run, examined: Any) -> None:
    examined(BROKEN)
    code, out, _ = run("doctor", "--json")
    found = json.loads(out)
    assert code == 1
    assert (found["passed"], found["broken"], found["checkpoint"]) == (False, "pixels", "tiny")
    assert found["findings"][2] == {
        "probe": "batch",
        "passed": True,
        "said": "alike",
        "figures": {"equal": 0.98, "n": 100.0, "largest_logit_difference": 0.25},
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dtype", "bf16"], "unknown dtype 'bf16'"),
        (["--model", "tiny-gema"], "did you mean tiny-gemma"),
        (["--device", "tpu"], "no device 'tpu'"),
        (["--samples", "0"], "--samples"),
    ],
)
def test_usage_exits_2(run: Run, arguments: list[str], said: str) -> None:
    code, out, err = run("doctor", *arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_a_probe_that_cannot_be_put_exits_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from pgbench.backends.paligemma.generate import PaliGemma
    from pgbench.errors import CheckpointError

    def full(*_: object) -> None:
        raise CheckpointError("out of memory with a batch of 8; lower --batch-size")

    monkeypatch.setattr(PaliGemma, "generate", full)
    code, out, err = run("doctor", "--model", "tiny-gemma", "--device", "cpu")
    assert (code, out) == (3, "")
    reason = "out of memory with a batch of 8; lower --batch-size"
    assert err == f"pgbench: probe finite could not be carried out: {reason}\n"


def test_what_breaks_behind_a_broken_probe_does_not_hide_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from pgbench.backends.paligemma import probes
    from pgbench.types import ModelRequest

    def crash(patient: Any) -> Finding:
        raise ValueError("shapes do not match")

    two = (
        probes.Probe("layout", "", lambda patient: Finding("layout", False, "one token is missing")),
        probes.Probe("pixels", "", crash),
    )
    monkeypatch.setattr(probes, "PROBES", two)
    _, _, verdict = probes.examine(ModelRequest(model="tiny-gemma", dtype="float32", device="cpu"))
    assert verdict.broken == Finding("layout", False, "one token is missing")
    assert verdict.findings[1].passed is None
    assert "shapes do not match" in verdict.findings[1].said


# Where a verdict goes


def test_a_verdict_is_found_for_its_checkpoint_and_stack_alone(tmp_path: Path) -> None:
    verdicts.keep(tmp_path, POINT, STACK, WHOLE)
    assert verdicts.find(tmp_path, POINT, STACK) == WHOLE
    assert verdicts.find(tmp_path, replace(POINT, revision="def"), STACK) is None
    assert verdicts.find(tmp_path, replace(POINT, dtype="float16"), STACK) is None
    assert verdicts.find(tmp_path, POINT, replace(STACK, versions={"torch": "2.14.0"})) is None
    chat = replace(POINT, profile=replace(POINT.profile, kind="chat"))
    assert verdicts.find(tmp_path, chat, STACK) is None
    official = replace(POINT, profile=replace(POINT.profile, style="official"))
    assert verdicts.find(tmp_path, official, STACK) == WHOLE
    task = replace(STACK, versions={**STACK.versions, "task": "1234"}, weight_bytes=5)
    assert verdicts.find(tmp_path, POINT, task) == WHOLE


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"verdict": {"findings": 1}}'])
def test_a_damaged_verdict_is_none(tmp_path: Path, damage: str) -> None:
    verdicts.keep(tmp_path, POINT, STACK, WHOLE).write_text(damage)
    assert verdicts.find(tmp_path, POINT, STACK) is None


def test_a_verdict_of_another_stack_under_this_name_is_none(tmp_path: Path) -> None:
    mine = verdicts.keep(tmp_path, POINT, STACK, WHOLE)
    mine.write_bytes(verdicts.keep(tmp_path, replace(POINT, dtype="float32"), STACK, WHOLE).read_bytes())
    assert verdicts.find(tmp_path, POINT, STACK) is None
    verdicts.keep(tmp_path, POINT, STACK, Verdict((), 0.0))  # nothing was asked
    assert verdicts.find(tmp_path, POINT, STACK) is None
    changed = json.loads(verdicts.keep(tmp_path, POINT, STACK, WHOLE).read_text()) | {"schema": 2}
    mine.write_text(json.dumps(changed))
    assert verdicts.find(tmp_path, POINT, STACK) is None


def test_figures_that_are_no_numbers_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from pgbench.backends.paligemma import probes
    from pgbench.types import ModelRequest

    found = Finding("layout", False, "nothing", {"far": float("nan"), "largest": float("inf"), "n": 1.0})
    monkeypatch.setattr(probes, "PROBES", (probes.Probe("layout", "", lambda patient: found),))
    _, _, verdict = probes.examine(ModelRequest(model="tiny-gemma", dtype="float32", device="cpu"))
    assert verdict.findings[0].figures == {"n": 1.0}


def test_a_verdict_names_no_stack_and_moves_no_key() -> None:
    other = replace(STACK, doctor=WHOLE)
    assert identity.answering(plain(POINT), plain(other)) == identity.answering(plain(POINT), plain(STACK))


def test_a_record_takes_the_verdict_that_is_there(run: Run, tmp_path: Path) -> None:
    """And a run that was begun before it was there goes on."""
    sizes = ("--model", "tiny-gemma", "--dtype", "float32", "--device", "cpu")
    task = ("--task", "textvqa", "--limit", "4", "--json")
    assert run("doctor", *sizes, "--samples", "2")[0] == 0
    code, out, _ = run("run", *task, *sizes)
    assert code == 0
    found = json.loads(out)["record"]["stack"]["doctor"]
    assert [one["passed"] for one in found["findings"]] == [True] * 18
    stored = json.loads(next((tmp_path / "runs" / "textvqa").rglob("stack.json")).read_text())
    assert stored["doctor"] is None  # what began a run is compared with what goes on
    code, out, _ = run("run", *task[:2], "--limit", "2", "--json", *sizes, "--threads", "2")
    assert json.loads(out)["record"]["stack"]["doctor"] is None  # another stack: nobody has probed it


def test_run_doctor_runs_nothing_on_a_broken_stack(run: Run, examined: Any, tmp_path: Path) -> None:
    examined(BROKEN)
    code, out, err = run("run", "--doctor", "--task", "textvqa", "--model", "tiny-gemma")
    assert (code, out) == (2, "")
    assert err.startswith("pgbench: probe pixels is broken: 3 of 255 away; nothing was run")
    assert not (tmp_path / "runs" / "textvqa").exists()


def test_run_doctor_believes_a_verdict_that_is_there(run: Run, examined: Any, tmp_path: Path) -> None:
    asked = examined(BROKEN)
    verdicts.keep(tmp_path / "runs", POINT, STACK, WHOLE)
    code, _, _ = run("run", "--doctor", "--task", "textvqa", "--limit", "2", "--model", "tiny-gemma")
    assert (code, len(asked)) == (0, 1)


def test_run_doctor_needs_a_model(run: Run) -> None:
    code, _, err = run("run", "--doctor", "--task", "textvqa", "--backend", "oracle")
    assert code == 2
    assert "the oracle backend has none" in err


def test_the_table_names_what_is_unusual() -> None:
    point = replace(POINT, protocol="paper", quant="4bit")
    assert terminal(of_verdict(point, STACK, WHOLE)).startswith(
        "doctor · tiny (protocol paper) · 4bit, rest bf"
    )
    assert document(point, WHOLE)["level"] == "4bit, rest bfloat16"


# The benchmark


def test_the_benchmark_runs_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "doctor_gpu.py"))["main"]
    out = tmp_path / "doctor.json"
    small = ["--divide", "32", "--layers", "1", "--samples", "2", "--batch", "2", "--device", "cpu"]
    asked = ["--random", "paligemma2-3b-224", "--levels", "4bit", *small, "--out", str(out)]
    assert main([*asked, "--protocols", "hf"]) == 0
    cells = json.loads(out.read_text())
    assert list(cells) == ["paligemma2-3b-224 4bit hf widths/32 1 layers"]
    first = next(iter(cells.values()))
    assert (first["resolution"], first["broken"], first["device"]) == (224, None, "cpu")
    assert {one["probe"]: one["figures"] for one in first["findings"]}["layout"]["image_tokens"] == 256
    capsys.readouterr()
    assert main([*asked, "--protocols", "hf"]) == 0  # all of it is there
    assert capsys.readouterr().out == ""
