"""What a sweep would do: sizes from the config alone, memory, time from records, and nothing fetched."""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hub_server import HubServer
from sweeps import Shelf, asked

import pgbench
from pgbench.backends.paligemma import engine, peek
from pgbench.backends.paligemma.size import size_of
from pgbench.backends.size import Linears, ModelSize
from pgbench.cli import invoke
from pgbench.recipe.asked import AskedCell
from pgbench.report.cost_table import costs
from pgbench.report.preview_table import counted, of_preview
from pgbench.sweeping.memory import Load, estimate, weight_bytes
from pgbench.sweeping.opening import peek_of
from pgbench.sweeping.pace import pace_of, seen_below
from pgbench.sweeping.preview import preview
from pgbench.sweeping.work import sweep
from pgbench.types import DataRequest, Dtype, ModelRequest, Quant

REPO = "org/tiny-paligemma-3b-mix-56"
SHIPPED = Path(pgbench.__file__).parent / "demo" / "checkpoints"
SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "patch_size": 14}
GEMMA = {
    "model_type": "gemma",
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_attention_heads": 8,
    "num_hidden_layers": 18,
    "num_key_value_heads": 1,
    "vocab_size": 257216,
}
GEMMA2 = {
    "model_type": "gemma2",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_attention_heads": 8,
    "num_hidden_layers": 26,
    "num_key_value_heads": 4,
    "vocab_size": 257216,
}
V1 = {"projection_dim": 2048, "vision_config": SIGLIP, "text_config": GEMMA}
V2 = {"projection_dim": 2304, "vision_config": SIGLIP, "text_config": GEMMA2}


def size(config: dict[str, Any]) -> ModelSize:
    found = size_of(config)
    assert found is not None
    return found


def tiny(name: str) -> ModelSize:
    return size(json.loads((SHIPPED / name / "config.json").read_text()))


# Parameters


@pytest.mark.parametrize(("config", "total"), [(V1, 2_923_466_480), (V2, 3_032_242_416)])
def test_released_checkpoints_have_as_many_parameters_as_their_pages_say(
    config: dict[str, Any], total: int
) -> None:
    """google/paligemma-3b-pt-224 and google/paligemma2-3b-pt-224, as the hub counts their safetensors."""
    assert size(config).parameters == total
    assert size(config).vision == 412_442_352  # SigLIP So400m/14 at 224 px
    assert size(config).image_tokens == 256


@pytest.mark.parametrize("name", ["tiny-gemma", "tiny-gemma2"])
def test_shipped_checkpoints_have_as_many_parameters_as_their_files(name: str) -> None:
    with (SHIPPED / name / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    counts = {key: math.prod(part["shape"]) for key, part in header.items() if key != "__metadata__"}
    found = tiny(name)
    assert found.parameters == sum(counts.values())
    parts = {"vision_tower": found.vision, "projector": found.projector, "embed_tokens": found.embeddings}
    for word, count in parts.items():
        assert count == sum(number for key, number in counts.items() if word in key)


def test_a_config_leaves_out_what_its_classes_know() -> None:
    from transformers import Gemma2Config, GemmaConfig, SiglipVisionConfig

    eye, one, two = SiglipVisionConfig(), GemmaConfig(), Gemma2Config()
    for text, kind in ((one, "gemma"), (two, "gemma2")):
        found = size({"text_config": {"model_type": kind}, "vision_config": {}})
        assert (found.width, found.mlp, found.heads, found.vocabulary) == (
            *(text.hidden_size, text.intermediate_size, text.num_attention_heads, text.vocab_size),
        )
        assert found.cached == 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
        assert (found.pixels, found.vision_width) == (eye.image_size, eye.hidden_size)
        assert found.vision_mlp == eye.intermediate_size


@pytest.mark.parametrize("wrong", ["2048", 0, -1, True, 1.5])
def test_a_config_that_cannot_be_has_no_size(wrong: object) -> None:
    assert size_of({**V1, "text_config": {**GEMMA, "hidden_size": wrong}}) is None
    assert size_of({**V1, "projection_dim": wrong}) is None


# Memory

LEVELS: list[tuple[Quant, Dtype, float]] = [
    ("none", "float32", 0.001),
    ("none", "bfloat16", 0.001),
    ("8bit", "bfloat16", 0.001),
    ("4bit", "bfloat16", 0.03),  # the packed path of AVX512-BF16 keeps other statistics
]


@pytest.mark.parametrize(("quant", "dtype", "within"), LEVELS)
def test_weights_are_as_large_as_what_is_loaded(quant: Quant, dtype: Dtype, within: float) -> None:
    backend = engine(ModelRequest("tiny-gemma2", dtype=dtype, quant=quant, device="cpu")).load()
    true = backend.describe().weight_bytes
    backend.close()
    assert weight_bytes(tiny("tiny-gemma2"), quant, dtype) == pytest.approx(true, rel=within)


def test_memory_is_the_sum_of_its_parts() -> None:
    plain = ModelSize(
        vision=1000,
        projector=10,
        text=2000,
        embeddings=500,
        linears=(Linears(64, 128, 2),),
        pixels=10,
        image_tokens=4,
        vision_width=8,
        vision_mlp=16,
        width=8,
        mlp=32,
        heads=2,
        vocabulary=100,
        cached=20,
        eager=False,
    )
    load = Load(rows=3, images=1, text=6, answer=5)
    found = estimate(plain, "none", "bfloat16", load)
    assert found.weights == 3510 * 2
    assert found.cache == 3 * (4 + 6 + 5) * 20 * 2
    assert found.activations == 3 * (10 * (3 * 32 + 6 * 8) * 2 + 3 * 10 * 10 * 2 + 100 * (2 + 4))
    assert found.total == found.weights + found.cache + found.activations
    eager = estimate(replace(plain, eager=True), "none", "bfloat16", load)
    assert eager.activations - found.activations == 3 * 2 * 10 * 10 * (2 * 2 + 4)
    seen = estimate(plain, "none", "bfloat16", replace(load, images=3))
    assert seen.cache == 3 * (12 + 6 + 5) * 20 * 2
    scored = estimate(plain, "none", "bfloat16", replace(load, scored=7))
    assert scored.cache - found.cache == 3 * 10 * 20 * 2
    assert scored.activations - found.activations == 3 * 2 * 7 * 100 * 2


def test_levels_are_in_the_order_that_one_expects() -> None:
    load = Load(8, 1, 64, 32)
    found = [estimate(size(V2), quant, dtype, load).total / 2**30 for quant, dtype, _ in LEVELS]
    assert found == sorted(found, reverse=True)
    weights = [weight_bytes(size(V2), quant, dtype) / 2**30 for quant, dtype, _ in LEVELS]
    assert weights == pytest.approx([11.30, 5.65, 3.38, 2.28], abs=0.01)


# A peek


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    shutil.copytree(SHIPPED / "tiny-gemma2", tmp_path / "hub" / "models" / REPO / "main")
    with HubServer(tmp_path / "hub") as server:
        server.use(monkeypatch, tmp_path / "cache")
        yield server


def test_a_peek_fetches_the_config_alone_and_knows_the_same_checkpoint(hub: HubServer) -> None:
    request = ModelRequest(REPO, device="cpu")
    before = peek(request)
    found = before.size()
    assert found is not None
    assert found.parameters == tiny("tiny-gemma2").parameters
    asked_for = " ".join(str(part) for part in hub.requests)
    assert "config.json" in asked_for
    assert "safetensors" not in asked_for
    after = engine(request)
    assert after.checkpoint == before.checkpoint
    assert after.size() == found
    assert "safetensors" in " ".join(str(part) for part in hub.requests)


def test_a_dry_run_of_a_hub_checkpoint_fetches_no_weights(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["--checkpoint", REPO, "--task", "textvqa", "--source", "demo", "--quant", "none,4bit"]
    assert invoke(["sweep", *words, "--limit", "20", "--dry-run", "--json", "--out", str(out)]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert [cell["quant"] for cell in cells] == ["none", "4bit"]
    assert cells[0]["memory"]["weights"] > cells[1]["memory"]["weights"] > 0
    assert "safetensors" not in " ".join(str(part) for part in hub.requests)
    assert not out.exists()


def test_an_engine_that_was_peeked_at_still_loads(hub: HubServer) -> None:
    backend = peek(ModelRequest(REPO, device="cpu")).load()
    assert backend.describe().weight_bytes
    backend.close()


def test_backends_without_a_peek_are_opened_as_ever() -> None:
    assert peek_of("oracle", ModelRequest()).checkpoint.id == "oracle"
    assert peek_of("oracle", ModelRequest()).size() is None


# The cells


def test_what_is_done_begun_to_run_and_impossible(tmp_path: Path) -> None:
    cells = [asked("a"), asked("b"), asked("b", seed=1), asked("c"), asked("broken")]
    sweep(cells[:1], tmp_path, engine_of=Shelf())
    begun = sweep(cells[1:2], tmp_path, engine_of=Shelf()).cells[0].folder
    assert begun is not None
    (begun / "record.json").unlink()
    lines = (begun / "samples-0-of-1.jsonl").read_bytes().splitlines(keepends=True)
    (begun / "samples-0-of-1.jsonl").write_bytes(b"".join(lines[:8]))
    shelf = Shelf(size=tiny("tiny-gemma"))
    found = preview(cells, tmp_path, shelf)
    assert shelf.loads == []
    assert [cell.told.state for cell in found] == ["done", "stopped", "waiting", "waiting", "failed"]
    assert [cell.kept for cell in found] == [20, 8, 0, 0, 0]
    assert [cell.left for cell in found] == [0, 12, 20, 20, 0]
    assert [cell.loads for cell in found] == [False, True, False, True, False]
    assert [cell.memory is None for cell in found] == [False] * 4 + [True]
    assert found[4].told.reason == "broken: no weights"


def test_a_cell_that_failed_before_is_neither_done_nor_impossible(tmp_path: Path) -> None:
    cell = asked("a", limit=4)
    (told,) = sweep([cell], tmp_path, engine_of=Shelf()).cells
    assert told.folder is not None
    path = told.folder / "record.json"
    record = json.loads(path.read_text())
    record["failures"] = [{"sample_id": "q1", "reason": "no picture"}]
    path.write_text(json.dumps(record))
    found = preview([cell, asked("a", limit=4, max_failures=1), asked("broken")], tmp_path, Shelf())
    assert [ahead.told.state for ahead in found] == ["failed", "done", "failed"]
    assert [ahead.failed_before for ahead in found] == [True, False, False]
    assert "1 sample failed, 0 allowed" in found[0].told.reason
    assert "or allow max_failures 1" in found[0].told.reason
    assert counted(found[:1]).startswith("1 cell, ")
    assert counted(found) == "3 cells, 0 to run, 1 done, 1 failed before, 1 impossible, 0 samples to answer"
    notes = of_preview(found).notes
    assert notes[0].startswith("failed before: textvqa")
    assert notes[1].startswith("impossible: textvqa")
    for place, planned in enumerate(("failed_before", "impossible")):
        (one,) = cast("list[dict[str, str]]", costs(found)[planned])
        assert one["reason"] == found[2 * place].told.reason


def write_record(out: Path, name: str, task: str, rate: float | None, **point: object) -> None:
    spec = {
        "task": task,
        "batch": 4,
        "checkpoint": {"id": "a", "revision": "f00", "quant": "none", "dtype": "bfloat16", **point},
    }
    path = out / task / name / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"spec": spec, "cost": {"samples_per_second": rate, "load_seconds": 3.0}}))


def test_time_is_told_by_records_of_the_task_then_of_other_tasks(tmp_path: Path) -> None:
    cells = [asked("a"), asked("a", seed=1), asked("b")]
    assert [cell.seconds for cell in preview(cells, tmp_path, Shelf())] == [None] * 3
    write_record(tmp_path, "one", "gqa", 10.0)
    write_record(tmp_path, "quantized", "textvqa", 99.0, quant="4bit")
    write_record(tmp_path, "unknown", "textvqa", None)
    (tmp_path / "gqa" / "torn").mkdir()
    (tmp_path / "gqa" / "torn" / "record.json").write_text('{"spec": ')
    found = preview(cells, tmp_path, Shelf())
    assert [cell.pace.basis if cell.pace else None for cell in found] == ["other tasks", "other tasks", None]
    assert [cell.seconds for cell in found] == [20 / 10 + 3.0, 20 / 10, None]  # loaded once
    write_record(tmp_path, "two", "textvqa", 5.0)
    write_record(tmp_path, "three", "textvqa", 4.0)
    found = preview(cells, tmp_path, Shelf())
    assert found[0].pace is not None
    assert (found[0].pace.basis, found[0].pace.rate) == ("this task", 4.5)


def test_another_batch_size_says_nothing_of_speed(tmp_path: Path) -> None:
    write_record(tmp_path, "one", "textvqa", 10.0)
    (ahead,) = preview([asked("a", batch=8)], tmp_path, Shelf())
    assert ahead.pace is None
    assert ahead.told.spec is not None
    assert pace_of(replace(ahead.told.spec, batch=4), seen_below(tmp_path)) is not None


def test_a_dry_run_says_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(tmp_path, "one", "gqa", 10.0, id="tiny-gemma", revision=None)
    words = ["--checkpoint", "tiny-gemma", "--task", "textvqa", "--limit", "20", "--batch-size", "4"]
    assert invoke(["sweep", *words, "--dry-run", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "1 cell, 1 to run, 0 done, 20 samples to answer" in out
    assert "memory is an estimate from the config alone" in out
    assert "time: unknown; no record below --out" in out  # of another revision


def test_a_dry_run_with_a_cell_that_cannot_run_is_incomplete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "config.json").write_text('{"model_type": "llama"}')
    words = ["--checkpoint", "tiny-gemma", "--checkpoint", str(bad), "--task", "textvqa", "--source", "demo"]
    assert invoke(["sweep", *words, "--dry-run", "--out", str(tmp_path / "out")]) == 3
    out = capsys.readouterr().out
    assert "1 to run, 0 done, 1 impossible" in out
    assert "bad is a 'llama' checkpoint" in out


def test_a_peek_of_what_is_no_checkpoint_says_so(tmp_path: Path) -> None:
    (ahead,) = preview([AskedCell("textvqa", ModelRequest(str(tmp_path)), DataRequest(""))], tmp_path / "out")
    assert ahead.told.state == "failed"
    assert "has no readable config.json" in ahead.told.reason
