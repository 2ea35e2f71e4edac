"""`pgbench plan`: samples from stored flips or an assumption, and what a sweep will cost."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import SPEC, Fake, make_cell, make_samples

from pgbench import flips, runner
from pgbench.cli import invoke
from pgbench.power import Design, samples_needed, smallest_drop
from pgbench.samples import read_lines

SAMPLES = make_samples(200)  # two to a cluster
RIGHT = {sample.id: str(sample.target) for sample in SAMPLES}
RECORDS = Path(__file__).parent / "records"


def ran(out: Path, wrong: set[int], seed: int = 0) -> Path:
    """A run that gets all right but these."""
    wrong_ids = {f"s{number:03}" for number in wrong}
    backend = Fake(answer=lambda name: "neither" if name in wrong_ids else RIGHT[name])
    return runner.run(make_cell(SAMPLES, backend, spec=replace(SPEC, seed=seed)), out).folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The first gets 10 wrong, the second 4 of these and 20 others, in whole clusters."""
    out = tmp_path_factory.mktemp("runs")
    return ran(out / "a", set(range(10))), ran(out / "b", {*range(4), *range(100, 120)})


def asked(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert invoke(["plan", *map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert invoke(["plan", *map(str, arguments)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_from_two_stored_runs(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, "--drop", 5, "--from", *two)
    assert found["flip_rate"] == pytest.approx(26 / 200)  # 6 gained, 20 lost
    assert "20 lower and 6 higher, -7.00 points" in found["notes"][0]
    clusters = [2.0] * 3 + [-2.0] * 10 + [0.0] * 87  # of two samples each
    mean = sum(clusters) / 200
    variance = 100 / 99 * sum((one - 2 * mean) ** 2 for one in clusters) / 200**2
    alone = (26 / 200 - mean**2) * 200 / 199 / 200
    assert found["design_effect"] == pytest.approx(variance / alone)
    design = Design(26 / 200, variance / alone)
    assert found["samples"] == samples_needed(design, 0.05)
    assert found["clusters"] == round(found["samples"] / 2)
    assert (found["task"], found["metric"], found["split_samples"]) == ("fake", "accuracy", 24)


def test_clusters_are_read_from_the_lines(two: tuple[Path, Path]) -> None:
    stored = flips.read(two[0], None)
    assert stored.clusters == {line.id: line.cluster for line in read_lines(two[0])}
    assert len(set(stored.clusters.values())) == 100
    other = flips.read(two[1], None)
    known = flips.between(stored, other)
    blind = [replace(one, clusters=dict.fromkeys(one.clusters, "")) for one in (stored, other)]
    unknown = flips.between(*blind)
    assert (known.deff_of, unknown.deff_of) == ("differences", "scores")
    assert unknown.deff == max(one.deff for one in (stored, other) if one.deff is not None)


def test_a_record_of_schema_1_gives_its_pictures_as_clusters() -> None:
    stored = flips.read(RECORDS / "schema-1", None)
    assert len(set(stored.clusters.values())) == 2
    assert "" not in stored.clusters.values()


def test_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, "--drop", 1, "--flip-rate", 0.08, "--task", "textvqa")
    assert (found["samples"], found["split"], found["split_samples"]) == (6277, "val", 5000)
    assert found["split_shows"] == smallest_drop(Design(0.08), 5000)
    assert any("clusters are not counted" in note for note in found["notes"])
    found = asked(capsys, "--samples", 500, "--flip-rate", 0.08, "--power", 0.8, "--deff", 1.5)
    assert found["drop"] == smallest_drop(Design(0.08, 1.5), 500)
    found = asked(capsys, "--drop", 1, "--spread", 0.25)
    assert found["samples"] == samples_needed(Design(0.0625, binary=False), 0.01)
    assert found["flip_rate"] is None


def test_assumed_with_the_clusters_of_a_run(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    found = asked(capsys, "--drop", 2, "--flip-rate", 0.1, "--clusters-of", two[1])
    record = flips.read(two[1], None).record
    score = record.scores["accuracy"]
    assert score.value is not None
    assert score.stderr is not None
    alone = score.value * (1 - score.value) / 199
    assert found["design_effect"] == pytest.approx(score.stderr**2 / alone)
    assert math.isclose(
        found["samples"], found["design_effect"] * samples_needed(Design(0.1), 0.02), abs_tol=2
    )


def test_the_text(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["plan", "--samples", "10", "--from", *map(str, two)]) == 0
    said = capsys.readouterr().out
    assert "10 samples (about 5 clusters) show no drop that is possible: at most 13.00 points" in said
    assert invoke(["plan", "--drop", "1", "--flip-rate", "0.08"]) == 0
    assert "a drop of 1.00 points needs 6,277 samples\n" in capsys.readouterr().out
    assert invoke(["plan", "--samples", "5000", "--flip-rate", "0.08"]) == 0
    assert "5,000 samples show a drop of 1.12 points or more\n" in capsys.readouterr().out


def test_what_is_refused(two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = two
    assert "--drop POINTS and --samples N" in refused(capsys, "--flip-rate", 0.1)
    assert "name one of --from RUN RUN, --flip-rate" in refused(capsys, "--drop", 1)
    assert "name one of --from" in refused(capsys, "--drop", 1, "--flip-rate", 0.1, "--from", first, second)
    assert "8 % is 0.08" in refused(capsys, "--drop", 1, "--flip-rate", 8)
    assert "at most 0.5" in refused(capsys, "--drop", 1, "--flip-rate", 0.005)
    assert "leave out --clusters-of" in refused(
        capsys, "--drop", 1, "--from", first, second, "--clusters-of", first
    )
    assert "holds no finished run" in refused(capsys, "--drop", 1, "--from", first, tmp_path)
    assert "did you mean accuracy" in refused(
        capsys, "--drop", 1, "--from", first, second, "--metric", "acuracy"
    )
    assert "no mean of one fraction a sample" in refused(
        capsys, "--drop", 1, "--from", first, second, "--metric", "pairs"
    )
    assert "score equally on all 200 samples" in refused(capsys, "--drop", 1, "--from", first, first)
    assert "the stored runs are of fake" in refused(
        capsys, "--drop", 1, "--from", first, second, "--task", "textvqa"
    )
    other = make_cell(SAMPLES[:100], Fake(), spec=SPEC)
    folder = runner.run(other, tmp_path / "other").folder
    assert "name two runs of the same questions" in refused(capsys, "--drop", 1, "--from", first, folder)


SWEEP = "defaults: {limit: 20}\ncheckpoints: [tiny-gemma, tiny-gemma2]\ntasks: [textvqa]\n"


def test_what_a_sweep_will_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweep.yaml").write_text(SWEEP)
    found = asked(capsys, "sweep.yaml", "--out", "runs")
    assert (found["cells"], found["to_run"], found["samples"], found["seconds"]) == (2, 2, 40, None)
    assert [one["checkpoint"] for one in found["unknown"]] == ["tiny-gemma", "tiny-gemma2"]
    assert not Path("runs").exists()
    seen = {"samples_per_second": 4.0, "load_seconds": 3.0}
    plant(Path("runs/textvqa/earlier"), "tiny-gemma2", **seen)
    found = asked(capsys, "sweep.yaml", "--out", "runs")
    assert found["seconds"] == pytest.approx(20 / 4.0 + 3.0)
    assert [one["checkpoint"] for one in found["unknown"]] == ["tiny-gemma"]
    assert invoke(["plan", "sweep.yaml", "--out", "runs"]) == 0
    said = capsys.readouterr().out
    assert [(one["checkpoint"], one["samples"], one["seconds"]) for one in found["checkpoints"]] == [
        ("tiny-gemma", 20, None),
        ("tiny-gemma2", 20, pytest.approx(8.0)),
    ]
    assert found["guessed"] == []
    assert "2 cells to run, 40 samples; about 8 s on one device, and 1 cell of unknown time" in said
    assert "time not known" in said


def plant(folder: Path, checkpoint: str, **cost: float) -> None:
    """The record of an earlier run, of another limit, with these costs."""
    from pgbench.recipe.read import read
    from pgbench.store import plain
    from pgbench.sweeping.opening import open_cell

    asked = {"checkpoints": [checkpoint], "tasks": ["textvqa"]}
    cell, _ = open_cell(read(None, asked)[0])
    document = json.loads((RECORDS / "schema-1" / "record.json").read_text())
    document["spec"] = plain(cell.spec)
    document["key"] = cell.spec.key
    document["cost"] |= cost
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(document))


def test_an_impossible_cell_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = "include: [{task: vqav2, model: tiny-gemma, source: files, data: nowhere}]\n"
    Path("sweep.yaml").write_text(SWEEP + entry)
    assert invoke(["plan", "sweep.yaml", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["cells"], found["to_run"]) == (3, 2)
    (one,) = found["impossible"]
    assert one["task"].startswith("vqav2")
    assert "nowhere" in one["reason"]


def test_a_sweep_is_planned_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    for flag, value in {"drop": 1, "power": 0.9, "deff": 2, "metric": "accuracy", "split": "val"}.items():
        assert "leave out the other flags" in refused(capsys, tmp_path / "sweep.yaml", f"--{flag}", value)
    (tmp_path / "sweep.yaml").write_text("tasks: [textvqq]\ncheckpoints: [tiny-gemma]\n")
    assert invoke(["plan", str(tmp_path / "sweep.yaml")]) == 2
    assert "did you mean textvqa" in capsys.readouterr().err
