"""`pgbench bench`: what it counts, measures, keeps and says, and the times that plans make of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import harmless
import pytest
from sweeps import Shelf, asked
from test_hostile import HOSTILE
from test_sweeping_preview import write_record

from pgbench.backends import Engine
from pgbench.backends.flops import Flops, flops
from pgbench.backends.paligemma import engine
from pgbench.backends.paligemma.size import size_of
from pgbench.backends.paligemma.widths import NAMES, Widths, size, widths
from pgbench.backends.size import ModelSize
from pgbench.batch import Cell
from pgbench.bench import kept
from pgbench.bench.figures import Bench, Refused, Row, Work, shape_of
from pgbench.bench.measure import available, measure
from pgbench.cli import invoke
from pgbench.errors import CheckpointError, OutOfMemory, UsageError
from pgbench.records import PeakMemory, Stack
from pgbench.report.bench_table import document, of_benches
from pgbench.report.render import terminal
from pgbench.sweeping.benched import asking, pace_of_bench, seconds
from pgbench.sweeping.opening import open_cell
from pgbench.sweeping.preview import preview
from pgbench.types import Checkpoint, ModelRequest, Profile

SMALL = Widths("paligemma2-3b", 224, 16, 2, patch=56)
POINT = Checkpoint("tiny", "f00", Profile("mix", "paligemma2"), 56)
STACK = Stack("paligemma", {"torch": "2.13.0", "transformers": "5.23.0", "python": "3.11"}, "cpu", threads=1)
PEAK = PeakMemory(3 << 30, "process resident", 1 << 30)
Run = Callable[..., tuple[int, str, str]]


def made(*rows: Row, point: Checkpoint = POINT, shape: str = "abc", **other: Any) -> Bench:
    """Figures as if they had been measured: 10 TFLOP a row, 20 TFLOP/s."""
    fields: dict[str, Any] = {
        "checkpoint": point,
        "stack": STACK,
        "work": Work(text=32, new=5, repeats=3),
        "shape": shape,
        "flops": Flops(vision=4e12, text=6e12, step=1e9),
        "prompt": 48,
        "load_seconds": 7.0,
        "prepare": (0.004, 0.002, 0.003),
        "matmul": 20e12,
        "matmul_of": "bfloat16, 2,048 x 2,048",
        "rows": rows or (Row(4, (4.0, 5.0, 3.0), (0.8, 0.4, 1.2), PEAK),),
        "started": "2026-01-02T03:04:05+00:00",
    }
    return Bench(**{**fields, **other})


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def of(*arguments: str) -> tuple[int, str, str]:
        return invoke(list(arguments)), *capsys.readouterr()

    return of


# What is counted


def counted(work: Callable[[], object]) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        work()
    return float(counter.get_total_flops())


@pytest.mark.parametrize("name", ["paligemma-3b", "paligemma2-3b"])
def test_flops_are_those_that_torch_counts(name: str) -> None:
    import torch

    from pgbench.backends.paligemma.last import at_last
    from pgbench.backends.paligemma.widths import model_of

    of = replace(SMALL, model=name)
    model, _ = model_of(of, dtype="float32")
    model.set_attn_implementation("eager")  # the products of sdpa on a CPU are not counted
    image, tokens, rows = model.config.image_token_id, size(of).image_tokens, 3
    pixels = torch.randn(rows, 3, of.pixels, of.pixels)

    def ask(text: int) -> tuple[float, float]:
        """What a prompt takes, and what one more token takes."""
        ids = torch.tensor([[image] * tokens + [5] * text] * rows)
        rest = {"attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
        given = {"input_ids": ids, "pixel_values": pixels, **rest}
        outs: list[Any] = []
        prefill = counted(lambda: outs.append(model(**given, logits_to_keep=1, use_cache=True)))
        more = {"input_ids": ids[:, -1:], "attention_mask": torch.ones(rows, tokens + text + 1)}
        keys = outs[0].past_key_values
        return prefill, counted(lambda: model(**more, past_key_values=keys, use_cache=True))

    def cut(text: int) -> float:
        """What a prompt takes with its last layer at the last token alone."""
        with at_last(model):
            return ask(text)[0]

    short, long = (flops(size(of), images=1, text=text, answer=2) for text in (9, 300))  # its own key is met
    (prefill, step), (_, later) = ask(9), ask(300)
    assert rows * short.vision == pytest.approx(counted(lambda: model.get_image_features(pixels)), rel=1e-9)
    # rotations are a product of matrices too, a thousandth of these narrow layers
    assert rows * short.prefill == pytest.approx(prefill, rel=2e-3)
    assert rows * short.step == pytest.approx(step, rel=5e-3)
    assert rows * (long.step - short.step) == pytest.approx(later - step, rel=1e-9)
    for text in (9, 300):
        spared = flops(size(of), images=1, text=text, cut=True)
        assert rows * spared.prefill == pytest.approx(cut(text), rel=2e-3)
        assert (spared.vision, spared.step) == (short.vision, flops(size(of), images=1, text=text).step)


def test_a_448_px_sample_takes_five_tflop() -> None:
    found = flops(size(widths("paligemma2-3b-448")), images=1, text=32)
    assert 5.0e12 < found.prefill < 5.6e12
    two = flops(size(widths("paligemma2-3b-448")), images=2, text=32)
    assert two.vision == 2 * found.vision
    assert two.text > 2 * found.text  # attention grows with the square


# Random weights at real widths


def test_widths_are_those_of_published_checkpoints() -> None:
    found = {name: round(size(widths(name)).parameters / 1e9, 2) for name in NAMES if name.endswith("-224")}
    assert found == {
        "paligemma-3b-224": 2.92,
        "paligemma2-3b-224": 3.03,
        "paligemma2-10b-224": 9.66,
        "paligemma2-28b-224": 27.65,
    }
    assert size(widths("paligemma-3b-896")).image_tokens == 4096


@pytest.mark.parametrize("name", ["paligemma2-3b-448/16", "paligemma-3b-224/32x3", "paligemma2-28b-224/32x1"])
def test_a_name_is_read_back(name: str) -> None:
    assert widths(name).name == name


@pytest.mark.parametrize(
    "name", ["paligemma2-3b", "paligemma2-3b-300", "paligemma2-3b-224/0", "paligemma-10b-224", "x", "../x"]
)
def test_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown random checkpoint .*paligemma2-3b-448"):
        widths(name)


@pytest.mark.parametrize("name", ["paligemma2-28b-224/32x1", "paligemma-3b-224/24x1"])
def test_what_is_built_has_the_widths_that_were_counted(name: str, tmp_path: Path) -> None:
    from pgbench.backends.paligemma.widths import folder

    of = widths(name)
    config = json.loads((folder(of, tmp_path) / "config.json").read_text())
    assert size_of(config) == size(of)
    found = engine(ModelRequest(model=str(tmp_path / of.folder)))
    assert (found.checkpoint.profile.kind, found.checkpoint.resolution) == ("pt", of.pixels)


def test_a_disk_without_room_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pgbench.backends.paligemma.widths import folder

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000_000))
    with pytest.raises(CheckpointError, match=r"takes 6\.1 GB of disk, 5\.0 GB are free .* set TMPDIR"):
        folder(widths("paligemma2-3b-448"), tmp_path)


def test_looking_at_names_and_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; import pgbench.backends.paligemma.widths; from pgbench.cli import invoke; "
        "invoke(['bench', '--help']); invoke(['bench', '--random', 'x']); "
        "heavy = {'torch', 'transformers', 'numpy', 'PIL', 'scipy'} & set(sys.modules); "
        "sys.exit(' '.join(sorted(heavy)) or None)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


# What is measured


@pytest.fixture(scope="module")
def measured() -> Bench:
    found = measure(engine(ModelRequest(model="tiny-gemma2")), Work(text=20, new=6, repeats=2), [1, 3])
    assert isinstance(found, Bench)
    return found


def test_every_size_has_its_figures(measured: Bench) -> None:
    assert [row.batch for row in measured.rows] == [1, 3]
    for row in measured.rows:
        assert (len(row.prefill), len(row.decode), row.said) == (2, 2, "")
        assert min(row.prefill) > 0
        assert row.peak is not None
        assert row.peak.bytes > measured.stack.weight_bytes
    assert measured.load_seconds > 0
    assert min(measured.prepare) > 0
    assert 1e9 < measured.matmul < 1e14


def test_the_prompt_is_as_long_as_asked_for(measured: Bench) -> None:
    assert measured.checkpoint.resolution == 56
    assert abs(measured.prompt - (16 + 20)) <= 1  # a word of the shipped tokenizer has two tokens
    model = engine(ModelRequest(model="tiny-gemma2")).size()
    assert model is not None
    assert measured.flops == flops(model, images=1, text=measured.prompt - 16, answer=6, cut=True)
    assert measured.shape == shape_of(model)


def test_no_answer_ends_early_while_it_is_measured() -> None:
    from pgbench.backends.paligemma.generate import PaliGemma
    from pgbench.backends.paligemma.instruments import Instruments
    from pgbench.bench.measure import Questions

    backend = engine(ModelRequest(model="tiny-gemma2")).load()
    assert isinstance(backend, PaliGemma)
    batch = Questions(backend, 20, 16).batch(2, 40)
    with Instruments(backend).unending():
        replies = backend.generate(batch)
    assert [(len(reply.token_ids), reply.finite) for reply in replies] == [(40, True)] * 2
    assert all(len(reply.token_ids) < 40 for reply in backend.generate(batch))  # else this test sees nothing
    assert len({prepared.image_key for prepared in batch}) == 2


def planted(monkeypatch: pytest.MonkeyPatch, largest: int, error: Exception) -> None:
    from pgbench.backends.paligemma.generate import PaliGemma

    answer = PaliGemma.generate

    def generate(self: PaliGemma, batch: Sequence[Any]) -> Any:
        if len(batch) > largest:
            raise error
        return answer(self, batch)

    monkeypatch.setattr(PaliGemma, "generate", generate)


def test_out_of_memory_at_a_size_is_a_row_that_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    planted(monkeypatch, 2, OutOfMemory("4 rows do not fit"))
    words = ["--model", "tiny-gemma2", "--batch-size", "8,2,4", "--repeats", "1", "--new-tokens", "2"]
    code, out, _ = run("bench", *words, "--out", str(tmp_path))
    assert code == 0
    lines = out.splitlines()
    rows = [line.split() for line in lines if line.startswith("bfloat16  ")]
    assert [row[1] for row in rows] == ["2", "4", "8"]
    assert [row[2:4] == ["no", "room"] for row in rows] == [False, True, True]
    assert "bfloat16, batch 4: out of memory" in lines
    assert "bfloat16, batch 8: not tried: 4 did not fit" in lines
    (found,) = kept.below(tmp_path)
    assert [bool(row.prefill) for row in found.rows] == [True, False, False]
    assert seconds(found, 4) == tuple(2 * part for part in seconds(found, 2) or ())


def test_another_error_of_a_size_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, 0, CheckpointError("the file was edited"))
    with pytest.raises(CheckpointError, match="edited"):
        measure(engine(ModelRequest(model="tiny-gemma2")), Work(20, 2, 1), [1])


def test_a_level_that_does_not_fit_is_refused_and_the_next_is_measured(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from pgbench.backends import paligemma

    opened = paligemma.engine

    def no_room() -> Any:
        raise CheckpointError("tiny does not fit into memory") from torch.OutOfMemoryError("CUDA")

    def find(request: ModelRequest) -> Engine:
        found = opened(request)
        return replace(found, load=no_room) if request.quant == "none" else found

    monkeypatch.setattr(paligemma, "engine", find)
    words = ["--batch-size", "1", "--repeats", "1", "--new-tokens", "2", "--json"]
    code, out, _ = run("bench", "--quant", "none,8bit", *words)
    first, second = json.loads(out)["levels"]
    assert (code, first["failed"], second["failed"]) == (0, "tiny does not fit into memory", None)
    assert run("bench", *words)[0] == 3  # nothing was measured


def test_a_batch_that_a_cpu_surely_cannot_hold_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel would end the process, and all figures with it."""
    from pgbench.bench import measure as module

    monkeypatch.setattr(module, "available", lambda: 1 << 20)
    found = measure(engine(ModelRequest(model="tiny-gemma2")), Work(20, 2, 1), [1, 64, 65])
    assert isinstance(found, Bench)
    assert found.rows[0].prefill
    assert found.rows[1].said.startswith("not tried: about 0.0 GiB more needed, 0.0 GiB free")
    assert found.rows[2].said == "not tried: 64 would not fit"


def test_free_memory_is_read_where_the_system_says_it(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   2048 kB\n")
    assert available(tmp_path / "meminfo") == 2048 * 1024
    assert available(tmp_path / "none") is None


def test_weights_that_leave_no_room_for_a_product_are_a_level_that_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from pgbench.backends.paligemma import instruments

    real = instruments._product_seconds

    def seconds_of(side: int, *rest: Any) -> float:
        if side > room[0]:
            raise torch.OutOfMemoryError("CUDA")
        return real(side, *rest)

    room = [1024]
    monkeypatch.setattr(instruments, "_product_seconds", seconds_of)
    found = measure(engine(ModelRequest(model="tiny-gemma2")), Work(20, 1, 1), [1])
    assert isinstance(found, Bench)
    assert "1,024 x 1,024" in found.matmul_of  # the larger one is left out
    room[0] = 0
    refused = measure(engine(ModelRequest(model="tiny-gemma2")), Work(20, 1, 1), [1])
    assert isinstance(refused, Refused)
    assert "no room for a product" in refused.said


def test_a_place_that_cannot_be_written_is_told_before_anything_is_measured(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pgbench.bench import measure as module

    monkeypatch.setattr(module, "measure", None)
    (tmp_path / "file").touch()
    code, out, err = run("bench", "--out", str(tmp_path / "file" / "runs"))
    assert (code, out) == (2, "")
    assert "cannot create" in err


def test_an_interruption_keeps_the_levels_before_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pgbench.bench import measure as module

    def gives(found: Engine, *rest: Any, **more: Any) -> Bench:
        if found.checkpoint.quant == "8bit":
            raise KeyboardInterrupt
        return made()

    monkeypatch.setattr(module, "measure", gives)
    code, out, err = run("bench", "--quant", "none,8bit", "--out", str(tmp_path))
    assert (code, out) == (3, "")
    assert "interrupted" in err
    assert len(kept.below(tmp_path)) == 1


# What is said


def test_the_document_is_pinned() -> None:
    bench = made(Row(4, (4.0, 5.0, 3.0), (0.8, 0.4, 1.2), PEAK), Row(8, said="out of memory"))
    refused = Refused(replace(POINT, quant="4bit"), "does not fit", "paligemma2-3b-448")
    found = document([bench, refused], ["runs/bench/a.json"])
    head = {
        "checkpoint": "tiny",
        "revision": "f00",
        "random": None,
        "resolution": 56,
        "quant": "none",
        "quant_scope": "all",
        "dtype": "bfloat16",
        "failed": None,
    }
    none = dict.fromkeys(
        [
            *("prefill_seconds", "prefill_samples_per_second", "prefill_tokens_per_second"),
            *("prefill_flops_per_second", "matmul_share", "decode_step_seconds"),
            *("decode_tokens_per_second", "peak_memory"),
        ]
    )
    assert found == {
        "schema": 1,
        "kept": ["runs/bench/a.json"],
        "levels": [
            {
                **head,
                "started": "2026-01-02T03:04:05+00:00",
                "device": "cpu",
                "threads": 1,
                "versions": {"torch": "2.13.0", "transformers": "5.23.0", "python": "3.11"},
                "attention": {},
                "numerics": {},
                "weight_bytes": 0,
                "work": {"text": 32, "new": 5, "repeats": 3, "images": 1},
                "prompt_tokens": 48,
                "load_seconds": 7.0,
                "prepare_seconds": 0.003,
                "matmul_flops_per_second": 20e12,
                "matmul_of": "bfloat16, 2,048 x 2,048",
                "flops": {"vision": 4e12, "text": 6e12, "step": 1e9, "prefill": 10e12},
                "rows": [
                    {
                        "batch": 4,
                        "failed": None,
                        "prefill_seconds": 4.0,
                        "prefill_samples_per_second": 1.0,
                        "prefill_tokens_per_second": 48.0,
                        "prefill_flops_per_second": 10e12,
                        "matmul_share": 0.5,
                        "decode_step_seconds": 0.2,  # four steps behind the first token
                        "decode_tokens_per_second": 20.0,
                        "peak_memory": {"bytes": 3 << 30, "kind": "process resident", "before": 1 << 30},
                        "all_prefill_seconds": [4.0, 5.0, 3.0],
                        "all_decode_seconds": [0.8, 0.4, 1.2],
                    },
                    {
                        "batch": 8,
                        "failed": "out of memory",
                        **none,
                        "all_prefill_seconds": [],
                        "all_decode_seconds": [],
                    },
                ],
            },
            {**head, "random": "paligemma2-3b-448", "quant": "4bit", "failed": "does not fit"},
        ],
    }
    json.dumps(found, allow_nan=False)


def test_the_table_has_medians_and_units() -> None:
    text = terminal(of_benches([made(random="paligemma2-3b-448")]))
    assert "bench · tiny · 56 px · RANDOM WEIGHTS at the widths of paligemma2-3b-448" in text
    assert (
        "48 prompt tokens (10 TFLOP, 40% of it vision), 5 new tokens · medians of 3 after a warm-up" in text
    )
    row = next(line for line in text.splitlines() if line.startswith("bfloat16 "))
    assert " ".join(row.split()) == "bfloat16 4 1 10 T 50.0 % 20 200 3.00 GiB"
    assert "load 7.0 s" in text
    assert "matmul 20 TFLOP/s (bfloat16, 2,048 x 2,048)" in text


def test_decoding_that_noise_hides_has_no_figure() -> None:
    bench = made(Row(1, (1.0,), (-0.1,), PEAK), Row(2, (1.0,), (), PEAK))
    assert [row.step_seconds(5) for row in bench.rows] == [None, None]
    assert "decode" in terminal(of_benches([bench]))


def test_hostile_names_are_printed_safely(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pgbench.bench import measure as module

    names = iter(HOSTILE)

    def gives(found: Engine, *rest: Any, **more: Any) -> Bench | Refused:
        point = replace(POINT, id=next(names), quant="4bit")
        stack = replace(STACK, device_name=point.id, attention={point.id: point.id})
        row = Row(1, said=point.id)
        return made(row, made().rows[0], point=point, stack=stack, random=point.id, matmul_of=point.id)

    monkeypatch.setattr(module, "measure", gives)
    for _ in HOSTILE[::2]:
        code, out, err = run("bench", "--out", str(tmp_path / "a\x1b[31m"))
        assert code == 0
        harmless.logged(out)
        harmless.logged(err)
    names = iter(HOSTILE)
    for name in HOSTILE:
        code, out, _ = run("bench", "--json")
        assert json.loads(out)["levels"][0]["checkpoint"] == name
        assert "##[" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--random", "paligemma2-3b-448", "--model", "x"], "leave out --model"),
        (["--random", "paligemma2-3b-999"], "unknown random checkpoint 'paligemma2-3b-999'; did you mean"),
        (["--batch-size", "1,x"], "expected numbers from 1 to 4096, as 1,2,4,8,16,32, got 'x'"),
        (["--batch-size", "0"], "got '0'"),
        (["--quant", "none,5bit"], "unknown quant '5bit'"),
        (["--repeats", "0"], "--repeats"),
        (["--model", "tiny-gema"], "did you mean tiny-gemma"),
        (["--text-tokens", "100000"], "no prompt of this length"),
        (["--device", "tpu"], "no device 'tpu'"),
    ],
)
def test_usage_exits_2(run: Run, arguments: list[str], said: str) -> None:
    code, out, err = run("bench", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


# What is kept


def test_figures_are_kept_and_read_back(tmp_path: Path, measured: Bench) -> None:
    path = kept.keep(tmp_path, measured)
    assert path.parent == tmp_path / "bench"
    assert kept.below(tmp_path) == [measured]
    assert str(Path(__file__).parent.parent) not in path.read_text()
    again = replace(measured, started="2999-01-01T00:00:00+00:00", work=replace(measured.work, repeats=9))
    assert kept.keep(tmp_path, again) == path  # more of the same takes its place
    other = replace(measured, work=replace(measured.work, text=99))
    assert kept.keep(tmp_path, other) != path
    assert [one.work.repeats for one in kept.below(tmp_path)] == [9, 2]  # the newest first


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}', '{"schema": 1, "bench": {}}', '{"schema": 1}'])
def test_what_cannot_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "a.json").write_text(text)
    assert kept.below(tmp_path) == []


# What plans make of it


def test_seconds_of_a_size_that_was_not_measured() -> None:
    rows = (Row(2, (1.0,), (0.4,)), Row(6, (2.0,), (1.2,)), Row(8, said="out of memory"))
    bench = made(*rows)
    assert seconds(bench, 2) == pytest.approx((1.0, 0.1))
    assert seconds(bench, 1) == pytest.approx((1.0, 0.1))
    assert seconds(bench, 3) == pytest.approx((1.25, 0.15))
    assert seconds(bench, 12) == pytest.approx((4.0, 0.6))
    assert seconds(made(Row(8, said="out of memory")), 8) is None


DRAWN = replace(asked("tiny-gemma2", limit=20, batch=4), backend="paligemma")


def shipped() -> tuple[Cell, ModelSize]:
    cell, _ = open_cell(DRAWN)
    found = cell.engine.size()
    assert found is not None
    return cell, found


def test_a_cell_takes_what_its_prompts_and_references_take() -> None:
    cell, model = shipped()
    first = [cell.dataset.samples[place] for place in range(20)]
    asks = asking(cell, first)
    assert (asks.images, asks.seen) == (1.0, 0.5)  # two questions on each drawing
    assert 5 < asks.text < 32
    assert 1 <= asks.steps < 8
    bench = made(shape=shape_of(model))
    pace = pace_of_bench(cell, first, [bench])
    assert pace is not None
    assert (pace.load, pace.basis, pace.device) == (7.0, "bench", "cpu")
    real = flops(model, images=1.0, text=asks.text)
    prefill = 4.0 * (real.vision / 2 + real.text) / 10e12
    assert pace.rate == pytest.approx(4 / (prefill + asks.steps * 0.2))


def test_figures_of_another_level_or_device_say_nothing() -> None:
    cell, model = shipped()
    first = [cell.dataset.samples[0]]
    fits = made(shape=shape_of(model))
    point = fits.checkpoint
    others = [
        made(),  # other widths
        replace(fits, checkpoint=replace(point, quant="4bit")),
        replace(fits, checkpoint=replace(point, dtype="float32")),
        replace(fits, checkpoint=replace(point, adapter_mode="attach")),
    ]
    assert [pace_of_bench(cell, first, [one]) for one in others] == [None] * len(others)
    assert pace_of_bench(cell, first, [fits], "cuda:1") is None
    assert pace_of_bench(cell, first, [fits], "cpu") is not None
    assert pace_of_bench(cell, [], [fits]) is None
    likely = replace(cell, spec=replace(cell.spec, mode="likelihood"))
    assert pace_of_bench(likely, first, [fits]) is None


def test_the_same_content_comes_before_newer_figures_of_its_widths() -> None:
    cell, model = shipped()
    newer = made(shape=shape_of(model), load_seconds=1.0)
    same = replace(newer, checkpoint=cell.spec.checkpoint, load_seconds=2.0)
    found = pace_of_bench(cell, [cell.dataset.samples[0]], [newer, same])
    assert found is not None
    assert found.load == 2.0


def test_records_come_before_a_bench(tmp_path: Path) -> None:
    cell, model = shipped()
    kept.keep(tmp_path, made(shape=shape_of(model)))
    (ahead,) = preview([DRAWN], tmp_path)
    assert ahead.pace is not None
    assert ahead.pace.basis == "bench"
    assert ahead.seconds == pytest.approx(20 / ahead.pace.rate + 7.0)
    point = cell.spec.checkpoint
    write_record(tmp_path, "one", "gqa", 10.0, id=point.id, revision=point.revision)
    (ahead,) = preview([DRAWN], tmp_path)
    assert ahead.pace is not None
    assert ahead.pace.basis == "other tasks"


def test_plan_and_dry_run_name_what_they_stand_on(run: Run, tmp_path: Path) -> None:
    _, model = shipped()
    kept.keep(tmp_path, made(shape=shape_of(model)))
    words = ["--checkpoint", "tiny-gemma2", "--task", "textvqa", "--limit", "20", "--batch-size", "4"]
    code, out, _ = run("sweep", *words, "--dry-run", "--out", str(tmp_path))
    assert code == 0
    assert "time: about" in out
    assert "+: no record; from pgbench bench on cpu at the same widths and level" in out
    _, out, _ = run("sweep", *words, "--dry-run", "--out", str(tmp_path), "--json")
    (cell,) = json.loads(out)["cells"]
    assert cell["seconds_from"] == "bench"
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        "defaults: {limit: 20, batch_size: 4}\ncheckpoints: [tiny-gemma2]\ntasks: [textvqa]\n"
        "quant: [none, 4bit]\n"
    )
    _, out, _ = run("plan", str(sweep), "--out", str(tmp_path))
    assert "at the speed that pgbench bench measured" in out
    assert "time from pgbench bench at the same widths, not from a run: textvqa v1 val · tiny-gemma2" in out
    assert "time not known, no record of this checkpoint, level and batch size, and no bench of its" in out
    _, out, _ = run("plan", str(sweep), "--out", str(tmp_path), "--json")
    found = json.loads(out)
    assert found["guessed"][0]["reason"].startswith("time from pgbench bench")
    assert [one["level"] for one in found["unknown"]] == ["4bit"]


def test_a_model_that_is_none_is_planned_as_before(tmp_path: Path) -> None:
    kept.keep(tmp_path, made())
    (ahead,) = preview([asked("a")], tmp_path, Shelf())
    assert ahead.pace is None
