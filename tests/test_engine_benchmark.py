"""The scripts that measure speed, run small: what they count, compare, and hold their figures against."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pgbench.registry import load_task
from pgbench.types import DataRequest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
GOOD = {"equal_share": 1.0, "ratio": 20.0, "outside_microseconds": 90.0, "inside_share": 0.95}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A script by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_a_row_is_held_against_the_thresholds(script: Any) -> None:
    engine, asked = script("engine"), script("engine_cells").Asked

    def missed(row: Any, **found: object) -> list[str]:
        return [one.split()[0] for one in engine._missed(row, {**GOOD, **found})]

    narrow, wide = asked("tiny-gemma", "float32", 30, 9), asked("tiny-gemma-448", "float32", 30, 9)
    for row in (narrow, wide, replace(narrow, questions=1), replace(wide, level="4bit")):
        assert missed(row) == []
    assert missed(narrow, ratio=9.9) == missed(replace(narrow, questions=1), ratio=4.9) == ["ratio"]
    assert missed(wide, ratio=2.4) == ["ratio"]
    assert missed(replace(narrow, questions=1), ratio=5.1) == missed(wide, ratio=2.6) == []
    assert (
        missed(narrow, equal_share=0.999)
        == missed(replace(wide, level="4bit"), equal_share=0.97)
        == ["equal"]
    )
    assert missed(replace(wide, level="4bit"), equal_share=0.98, ratio=0.1) == []
    assert missed(narrow, outside_microseconds=151.0) == ["151.0"]
    assert missed(wide, inside_share=0.89) == ["inside"]
    assert missed(narrow, inside_share=0.5) == []


def test_figures_are_medians_over_rounds_and_the_worst_of_answers(script: Any) -> None:
    engine, sides = script("engine"), script("engine_sides")
    card = {"a": "red", "b": "blue"}

    def one(wall: float, inside: float, answers: Mapping[str, str]) -> Any:
        return sides.Pass(sides.Clock(wall, wall), sides.Clock(inside, inside), answers, SimpleNamespace())

    passes = [one(0.2, 0.15, card), one(0.4, 0.3, {"a": "red", "b": "green"}), one(0.2, 0.1, card)]
    shares = [(sides.Clock(1.0, 1.0), 1), (sides.Clock(1.0, 1.0), 1), (sides.Clock(4.0, 4.0), 1)]
    row = engine.figures(script("engine_cells").Asked("tiny-gemma", "float32", 1, 2), passes, shares, card)
    assert row["ratios"] == [10.0, 5.0, 40.0]
    assert row["ratio"] == 10.0
    assert row["equal_share"] == 0.5
    assert row["inside_share"] == 0.75
    assert row["outside_microseconds"] == 50_000.0
    assert row["passed"] is False


@pytest.mark.parametrize("questions", [1, 4])
def test_both_sides_see_the_same_samples(script: Any, tmp_path: Path, questions: int) -> None:
    asked = script("engine_cells").Asked("tiny-gemma2", "float32", questions, 24, batch=8)
    row = script("engine").measured(asked, tmp_path, rounds=1)
    assert row["equal_share"] == 1.0
    assert row["samples"] == 24
    assert row["different_answers"] > 3
    assert 0.05 < row["inside_share"] < 0.999
    assert 0 < row["inside_microseconds"] < row["loop_microseconds"]
    assert row["outside_cpu_microseconds"] > 10


def test_a_wide_checkpoint_looks_at_photographs(script: Any, tmp_path: Path) -> None:
    cells = script("engine_cells")
    folder = cells.folder_of("tiny-gemma-448", tmp_path)
    asked = cells.Asked("tiny-gemma-448", "float32", 5, 10, batch=4)
    samples = cells.samples_of(asked)
    assert len(samples) == 10
    assert len({sample.cluster for sample in samples}) == 2
    assert len({sample.question for sample in samples[:5]}) == 5
    assert samples[0].images[0].read()[:2] == b"P6"
    cell = cells.cell_of(asked, folder, samples)
    assert cell.spec.checkpoint.resolution == 448
    prepared = cell.engine.load().prepare(_request(samples[0]))
    assert prepared.ids.count(prepared.ids[0]) == 256


def _request(sample: Any) -> Any:
    from pgbench.types import Request

    return Request(sample.id, sample.images, "answer en what?", 4)


def test_lack_of_memory_changes_no_answer(script: Any, tmp_path: Path) -> None:
    proofs = script("speed_proofs")
    found = proofs.out_of_memory(tmp_path, "tiny-gemma", runs=2, samples=48)
    assert found["passed"], found
    assert found["failed_passes"] >= 2
    assert 0 < found["batches_halved"] <= found["batches"] == 6


def test_noise_is_computed_when_it_is_asked_for(script: Any, tmp_path: Path) -> None:
    path = tmp_path / "noise_10.py"
    path.write_text(script("speed_proofs").TASK.format(count=10))
    samples = load_task(str(path)).sources["demo"](DataRequest("val")).samples
    assert len(samples) == len({sample.id for sample in samples}) == 10
    pictures = [sample.images[0].read() for sample in samples]
    assert pictures[0] == pictures[1] != pictures[2]
    assert len({sample.cluster for sample in samples}) == 5


def test_pauses_of_a_device_are_seen(script: Any) -> None:
    gpu = script("engine_gpu")
    events = [
        {"ph": "X", "cat": "kernel", "ts": 0.0, "dur": 20.0},
        {"ph": "X", "cat": "cpu_op", "ts": 10.0, "dur": 30.0},
        {"ph": "X", "cat": "gpu_memcpy", "ts": 5.0, "dur": 10.0},
        {"ph": "X", "cat": "kernel", "ts": 40.0, "dur": 10.0},
        {"ph": "i", "cat": "kernel", "ts": 45.0},
    ]
    spans = list(gpu.on_device(events))
    assert gpu.gaps(spans, skipped=0.0) == {"longest_microseconds": 20.0, "idle_share": 0.4}
    assert gpu.gaps(spans, skipped=0.4)["longest_microseconds"] == 25.0
    assert gpu.gaps([]) == {"longest_microseconds": 0.0, "idle_share": 0.0}
