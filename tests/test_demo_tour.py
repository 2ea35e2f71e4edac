"""`pgbench demo` with small checkpoints in the place of its own: every step, every command that it shows."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from pgbench.cli import demo, invoke
from pgbench.demo.touring import gate, route, tables
from pgbench.demo.touring.route import FULL, QUICK, Gate, Harm, Route
from pgbench.engines import devices, local
from pgbench.errors import CheckpointError, UsageError
from pgbench.recipe.asked import AskedCell
from pgbench.recipe.read import read
from pgbench.registry import task_names
from pgbench.sweeping.stop import Stop
from pgbench.sweeping.told import Swept, Told

Capture = pytest.CaptureFixture[str]
SMALL = Route(
    checkpoints=("tiny-gemma",),
    quant=("none", "4bit"),
    tasks={"textvqa": {}},
    limit=40,
    pair={56: "tiny-gemma", 448: "none"},
    gate=Gate("textvqa", "tiny-gemma"),
)


@pytest.fixture(scope="module")
def toured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the tour was made, and what was printed."""
    import contextlib
    import io

    out, text = tmp_path_factory.mktemp("demo") / "out", io.StringIO()
    with contextlib.redirect_stdout(text):
        assert demo.tour(SMALL, out) == 0
    return out, text.getvalue()


def commands(text: str) -> list[list[str]]:
    """The arguments of every command that was shown, globs expanded as a shell does."""
    lines = [line.split("$ pgbench ", 1)[1] for line in text.splitlines() if "$ pgbench " in line]
    return [[found for word in shlex.split(line) for found in expanded(word)] for line in lines]


def expanded(word: str) -> list[str]:
    found = Path("/").glob(word.removeprefix("/")) if "*" in word else ()
    return sorted(map(str, found)) or [word]


def test_the_tour_shows_all_its_steps(toured: tuple[Path, str]) -> None:
    out, text = toured
    names = [words[0] for words in commands(text)]
    assert names == ["sweep", "report", "report", "baseline", "check", "run", "check"]
    assert "2 of 2 cells done" in text
    assert text.count("DEMO NUMBERS") >= 3
    assert text.index("exit code 0") < text.index("REGRESSED") < text.index("exit code 1")
    assert text.split("Next:\n")[1].count("\n") == 3
    for name in ("report.html", "tables.md", "tables.tex"):
        content = (out / name).read_text()
        assert "DEMO NUMBERS" in content
        assert "what quantization does" in content
        assert str(out) not in content


def test_every_command_that_is_shown_does_what_was_shown(toured: tuple[Path, str], capsys: Capture) -> None:
    """Given again they find everything done, and the checks exit as the text says."""
    out, text = toured
    before = sorted(path.relative_to(out) for path in out.rglob("record.json"))
    for words, code in zip(commands(text), (0, 0, 0, 0, 0, 0, 1), strict=True):
        assert invoke(words) == code, words
        said = capsys.readouterr().out
        if words[0] == "run":
            assert "already done" in said
        if words[0] == "sweep":
            assert "2 of 2 cells done (2 of them before)" in said
        if words[0] == "report":
            assert all(line in text for line in said.splitlines() if "tiny-gemma " in line)
    assert sorted(path.relative_to(out) for path in out.rglob("record.json")) == before


def test_as_a_document(toured: tuple[Path, str], capsys: Capture) -> None:
    """And again: nothing is answered twice."""
    out, _ = toured
    assert demo.tour(SMALL, out, as_json=True) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["demo"] is True
    assert document["exit_code"] == 0
    assert [cell["already_done"] for cell in document["sweep"]["cells"]] == [True, True]
    assert [len(table["rows"]) for table in document["tables"]["tables"]] == [2, 1]
    assert (document["gate"]["itself"]["exit_code"], document["gate"]["damaged"]["exit_code"]) == (0, 1)
    assert document["gate"]["damage"]["tensors"]
    assert all((Path(path)).is_file() for path in document["files"].values())


def test_a_gate_that_does_not_see_the_damage_is_a_failure(toured: tuple[Path, str], capsys: Capture) -> None:
    out = Path(shutil.copytree(toured[0], toured[0].parent / "soft"))
    soft = dataclasses.replace(SMALL, gate=dataclasses.replace(SMALL.gate, harm=Harm(size=0.0)))
    assert demo.tour(soft, out) == 3
    said = capsys.readouterr()
    assert "the gate did not say what it should" in said.err
    assert "Next:" not in said.out


def test_ctrl_c_leaves_it_resumable(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping(self: Stop, done: int, total: int) -> None:
        if 0 < done < total:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Stop, "at_boundary", stopping)
        assert demo.tour(SMALL, tmp_path) == 3
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith("pgbench: interrupted; 0 of 2 cells done")
    assert said.err.splitlines()[-1].endswith("the same command goes on")
    assert "1 stopped" in said.out
    kept = sum(len(path.read_text().splitlines()) for path in tmp_path.rglob("samples-*.jsonl"))
    assert 0 < kept < 40


def test_two_processes_where_the_route_asks_for_them(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine that `pgbench sweep --engine local` has, as the command that is shown says."""
    heard: list[object] = []

    def sweep(asked: Sequence[AskedCell], out: Path, **more: object) -> Swept:
        heard.append((len(asked), out, more["workers"]))
        return Swept(tuple(map(Told, asked)), "interrupted")

    monkeypatch.setattr(local, "sweep", sweep)
    monkeypatch.setattr(devices, "usable_cores", lambda: 3)
    assert demo.tour(dataclasses.replace(SMALL, workers=2), tmp_path) == 3
    assert heard == [(2, tmp_path / "runs", 2)]
    assert commands(capsys.readouterr().out)[0][-4:] == ["--engine", "local", "--workers", "2"]


@pytest.mark.parametrize(("flags", "chosen"), [([], FULL), (["--quick"], QUICK)])
def test_the_command_takes_the_tour(
    flags: list[str], chosen: Route, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[object] = []

    def tour(route: Route, out: Path, *, as_json: bool = False) -> int:
        heard.append((route, out, as_json))
        return 3

    monkeypatch.setattr(demo, "tour", tour)
    assert invoke(["demo", *flags, "--out", str(tmp_path), "--json"]) == 3
    assert invoke(["demo", *flags]) == 3
    default = Path("pgbench-demo-quick" if flags else "pgbench-demo")
    assert heard == [(chosen, tmp_path, True), (chosen, default, False)]


def test_another_demo_in_the_folder_is_refused(tmp_path: Path) -> None:
    route.begin(SMALL, tmp_path)
    assert route.begin(SMALL, tmp_path) == read(tmp_path / route.RECIPE)
    with pytest.raises(UsageError, match=r"another demo\.yaml; name another folder"):
        route.begin(dataclasses.replace(SMALL, limit=41), tmp_path)


@pytest.mark.parametrize("name", ["full", "quick"])
def test_the_recipe_asks_for_what_the_route_says(name: str, tmp_path: Path) -> None:
    """With checkpoints that are shipped in any case: names are looked up."""
    chosen = {"full": FULL, "quick": QUICK}[name]
    known = {"textvqa": chosen.tasks["textvqa"], "vqav2": {}}
    asked = route.begin(
        dataclasses.replace(chosen, checkpoints=("tiny-gemma2", "tiny-gemma"), tasks=known), tmp_path
    )
    assert [(one.model.model, one.model.quant, one.task) for one in asked] == [
        (checkpoint, quant, task)
        for checkpoint in ("tiny-gemma2", "tiny-gemma")
        for quant in chosen.quant
        for task in known
    ]
    assert {(one.limit, one.batch, one.source, one.model.threads, one.model.device) for one in asked} == {
        (chosen.limit, chosen.batch, "demo", 1, "cpu")
    }
    assert {one.data.id for one in asked if one.task == "textvqa"} == {"world"}
    assert not {one.dtype for one in (cell.model for cell in asked)} - {"bfloat16"}


def test_the_routes_fit_together() -> None:
    assert {*QUICK.tasks} <= {*FULL.tasks} <= {*task_names()}
    assert FULL.limit == 100
    assert set(FULL.quant) == {"none", "8bit", "4bit"}
    for chosen in (FULL, QUICK):
        assert {*chosen.pair.values(), chosen.gate.checkpoint} <= {*chosen.checkpoints}
        assert chosen.gate.task in chosen.tasks
        assert list(chosen.checkpoints) == sorted(chosen.checkpoints, key=lambda name: int(name[-3:]))


def test_the_cheap_checkpoint_and_no_other_is_guarded_by_the_gate(tmp_path: Path) -> None:
    cells = route.begin(SMALL, tmp_path)
    assert route.only(cells, "textvqa", "tiny-gemma") == cells[0]
    with pytest.raises(UsageError, match="no unquantized cell of textvqa and tiny-gemma2"):
        route.only(cells, "textvqa", "tiny-gemma2")
    elsewhere = dataclasses.replace(SMALL, gate=Gate("textvqa", "google/x"))
    with pytest.raises(CheckpointError, match="no checkpoint that pgbench ships"):
        gate.harm(elsewhere, gate.Post(cells[0], *[tmp_path] * 4))


def test_what_a_table_above_said_is_not_said_again(toured: tuple[Path, str]) -> None:
    _, text = toured
    assert text.count("bold: the best of all cells") == 1
    assert tables.TITLE.startswith("pgbench demo")
