"""pgbench from Python: the examples of the pages, quiet, with errors that say what was meant."""

from __future__ import annotations

import inspect
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import pgbench
from pgbench import face
from pgbench.cli.run import run as run_command
from pgbench.cli.sweep import sweep as sweep_command
from pgbench.errors import CheckpointError, UsageError
from pgbench.recipe.asked import AskedCell

ROOT = Path(__file__).parents[1]
SAME = {"as_json"}  # flags that make no sense in Python


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def examples(page: Path) -> str:
    """All the Python of a page, in order."""
    return "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_examples_of_the_pages_run(page: str) -> None:
    names: dict[str, Any] = {}
    exec(compile(examples(ROOT / page), page, "exec"), names)
    assert names["done"].record.scores["accuracy"].n > 0
    assert names["swept"].whole
    assert len(names["cells"]) >= 2 * (1 + len(names["swept"].cells)) - 2  # one may be in both
    assert len(names["answers"]) > 0


def test_a_run_and_again() -> None:
    heard: list[tuple[int, int]] = []
    keep = lambda done, total: heard.append((done, total))  # noqa: E731
    done = pgbench.run("textvqa", backend="oracle", limit=16, out=Path("runs"), progress=keep)
    assert (done.record.data.selected, done.already_done, done.folder.parent.parent) == (
        16,
        False,
        Path("runs"),
    )
    assert heard == [(0, 16), (8, 16), (16, 16)]
    again = pgbench.run(task="textvqa", backend="oracle", limit=16, out="runs")
    assert (again.already_done, again.record) == (True, done.record)


def test_every_keyword_reaches_the_cell() -> None:
    given: dict[str, Any] = {
        "task": "mmmu",
        "model": Path("m"),
        "revision": "r",
        "quant": "8bit",
        "quant_scope": "language",
        "kind": "ft",
        "tuned_on": "t",
        "resolution": 9,
        "adapter": Path("a"),
        "adapter_mode": "attach",
        "adapter_order": "after",
        "max_memory": "cpu=1GB",
        "dtype": "float16",
        "device": "cuda:1",
        "batch_size": 3,
        "source": "files",
        "data": Path("d"),
        "data_id": "i",
        "data_revision": "v",
        "split": "s",
        "variant": "w",
        "metric": "x",
        "prompt_style": "official",
        "protocol": "paper",
        "pixels_from": 8,
        "mode": "likelihood",
        "chat_attention": "causal",
        "limit": 5,
        "seed": 6,
        "official_seed": 7,
        "backend": "b",
        "predictions": "p",
        "threads": 2,
        "attention": "eager",
        "cache": "dynamic",
        "max_failures": 4,
    }
    asked = face._asked(given)
    model, data = asked.model, asked.data
    assert (model.model, model.revision, model.quant, model.dtype) == ("m", "r", "8bit", "float16")
    assert (model.device, model.style, model.threads, model.predictions) == ("cuda:1", "official", 2, "p")
    assert (model.protocol, model.pixels_from) == ("paper", 8)
    assert (model.attention, model.cache) == ("eager", "dynamic")
    assert (asked.mode, model.chat_attention) == ("likelihood", "causal")
    assert (model.quant_scope, model.kind, model.tuned_on, model.resolution) == ("language", "ft", "t", 9)
    assert (model.adapter, model.adapter_mode, model.adapter_order) == ("a", "attach", "after")
    assert model.max_memory == "cpu=1GB"
    assert (data.split, data.path, data.id, data.revision) == ("s", "d", "i", "v")
    assert (asked.task, asked.backend, asked.source, asked.variant) == ("mmmu", "b", "files", "w")
    assert (asked.metric, asked.official_seed, asked.limit, asked.seed) == ("x", 7, 5, 6)
    assert (asked.batch, asked.max_failures) == (3, 4)
    assert set(given) == set(inspect.signature(pgbench.run).parameters) - {"no_reuse", "out", "progress"}


def test_the_keywords_of_a_sweep_are_flags() -> None:
    ours, theirs = (inspect.signature(one).parameters for one in (pgbench.sweep, sweep_command))
    own = {"sweep", "overrides"}
    assert {*ours} - own <= {*theirs}
    assert all(ours[name].default == theirs[name].default for name in {*ours} - own - {"out"})


def test_the_keywords_are_the_flags() -> None:
    ours, theirs = (inspect.signature(one).parameters for one in (pgbench.run, run_command))
    assert {*ours} - {"progress"} == {*theirs} - {"as_json", "doctor", "shard"}  # the doctor prints
    defaults = {name: ours[name].default for name in ours if name in theirs and name != "out"}
    assert defaults == {name: theirs[name].default for name in defaults}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"modle": "tiny-gemma"}, r"unknown keyword of pgbench\.run 'modle'; did you mean mode or model"),
        ({"quant": "4bits"}, "quant: got '4bits'; expected none .* did you mean 4bit"),
        ({"limit": 0, "batch_size": "8"}, "batch_size: got '8'; expected .*; limit: got 0; expected"),
        ({"limit": True}, "limit: got True; expected samples at most"),
        ({"split": "vall", "backend": "oracle"}, "unknown split of textvqa 'vall'; did you mean val"),
    ],
)
def test_a_wrong_keyword_or_value(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        pgbench.run(task="textvqa", **keywords)
    assert "\n" not in str(caught.value)


def test_a_sweep_from_a_file_and_from_a_mapping() -> None:
    Path("sweep.yaml").write_text("defaults: {backend: oracle, limit: 40}\ntasks: [textvqa]\n")
    swept = pgbench.sweep("sweep.yaml", out="runs", limit=20)
    assert (swept.whole, [cell.samples for cell in swept.cells]) == (True, [20])
    same = pgbench.sweep({"defaults": {"backend": "oracle", "limit": 20}, "tasks": ["textvqa"]}, out="runs")
    assert [cell.already_done for cell in same.cells] == [True]
    both = pgbench.sweep({"tasks": ["gqa"], "defaults": {"backend": "oracle"}}, tasks=["textvqa"], limit=8)
    assert [(cell.asked.task, cell.samples) for cell in both.cells] == [("textvqa", 8)]
    with pytest.raises(UsageError, match="'limt'; did you mean limit"):
        pgbench.sweep("sweep.yaml", limt=3)
    with pytest.raises(UsageError, match="expected the path of a sweep file, or a mapping, got 7"):
        pgbench.sweep(7)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="workers goes with engine"):
        pgbench.sweep("sweep.yaml", workers=2)
    with pytest.raises(UsageError, match="address goes with engine"):
        pgbench.sweep("sweep.yaml", engine="local", address="auto")
    with pytest.raises(UsageError, match="unknown engine 'lokal'; did you mean local"):
        pgbench.sweep("sweep.yaml", engine="lokal")


def test_reuse_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    import pgbench.sweeping.work  # before the patch: it takes the function by its name
    from pgbench.sweeping import opening

    asked: list[bool] = []

    def opened(cell: AskedCell, *engines: Any) -> Any:
        asked.append(cell.reuse)
        return open_cell(cell, *engines)

    open_cell = opening.open_cell
    monkeypatch.setattr(opening, "open_cell", opened)
    for off in (False, True):
        pgbench.run(task="textvqa", backend="oracle", limit=8, out="runs", no_reuse=off)
        swept = pgbench.sweep({"tasks": ["textvqa"]}, backend="oracle", limit=8, out="runs", no_reuse=off)
        asked.append(swept.cells[0].asked.reuse)
    assert asked == [True, True, False, False]


def test_a_cell_that_fails_raises_nothing() -> None:
    entries = [{"task": "vqav2", "source": "files", "data": "nowhere"}, {"task": "textvqa"}]
    swept = pgbench.sweep({"include": entries, "defaults": {"backend": "oracle", "limit": 8}}, out="runs")
    assert not swept.whole
    assert [cell.state for cell in swept.cells] == ["failed", "done"]
    assert "nowhere" in swept.cells[0].reason


def test_replicates_are_a_column() -> None:
    recipe = {"two seeds": ["tiny-gemma", "tiny-gemma2"]}
    swept = pgbench.sweep({"replicates": recipe, "tasks": ["textvqa"]}, out="runs", limit=4)
    assert swept.whole
    assert pgbench.load("runs")["replicate"].unique().tolist() == ["two seeds"]


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after the third batch of the oracle."""
    from pgbench.backends.oracle import Oracle

    calls: list[int] = []
    generate = Oracle.generate

    def stopping(self: Oracle, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:  # the first is the warm-up
            signal.raise_signal(signal.SIGINT)
        return generate(self, batch)

    monkeypatch.setattr(Oracle, "generate", stopping)


@pytest.mark.usefixtures("interrupt")
def test_ctrl_c_passes_and_keeps_the_answers_of_a_run() -> None:
    with pytest.raises(KeyboardInterrupt):
        pgbench.run(task="textvqa", backend="oracle", limit=40, out="runs")
    assert len(pgbench.load_samples("runs")) == 16
    assert pgbench.run(task="textvqa", backend="oracle", limit=40, out="runs").record.data.selected == 40


@pytest.mark.usefixtures("interrupt")
def test_ctrl_c_passes_and_keeps_the_answers_of_a_sweep() -> None:
    what = {"tasks": ["textvqa"], "defaults": {"backend": "oracle", "limit": 40}}
    with pytest.raises(KeyboardInterrupt, match="all answers are kept, the same call goes on"):
        pgbench.sweep(what, out="runs")
    assert len(pgbench.load_samples("runs")) == 16
    assert pgbench.sweep(what, out="runs").whole


def test_nothing_is_printed_and_no_handler_is_left(capfd: pytest.CaptureFixture[str]) -> None:
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    pgbench.run(task="textvqa", model="tiny-gemma2", quant="4bit", limit=4, out="runs")
    pgbench.sweep({"checkpoints": ["tiny-gemma2"], "tasks": ["textvqa"]}, out="runs", limit=4)
    pgbench.load("runs"), pgbench.load_samples("runs")
    with pytest.raises(CheckpointError):
        pgbench.run(task="textvqa", model="./nowhere", data=".", out="runs")
    assert capfd.readouterr() == ("", "")
    assert handlers == [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    assert [thread.name for thread in threading.enumerate() if not thread.daemon] == ["MainThread"]


def test_the_face_is_sorted_lazy_and_whole() -> None:
    assert pgbench.__all__ == sorted(pgbench.__all__)
    assert set(pgbench.__all__) <= set(dir(pgbench))
    for name in pgbench.__all__:
        assert getattr(pgbench, name) is not None
    code = (
        "import sys, pgbench\n"
        "heavy = {'numpy', 'pandas', 'torch', 'transformers', 'pydantic', 'PIL', 'yaml', 'typer'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert not [name for name in sys.modules if name.startswith('pgbench.')]\n"
        "for name in pgbench.__all__: getattr(pgbench, name)\n"
        "import pgbench.runner, pgbench.sweeping.work\n"
        "assert callable(pgbench.sweep) and callable(pgbench.run) and callable(pgbench.load)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_type_checkers_see_the_functions(tmp_path: Path) -> None:
    """Names that are looked up late have types all the same."""
    tree = (ROOT / "pgbench" / "__init__.py").read_text(encoding="utf-8")
    typed = set(re.findall(r"\b\w+\b", tree.split("if TYPE_CHECKING")[1].split("__all__")[0]))
    assert set(pgbench.__all__) <= typed
