"""--protocol paper and --pixels-from: layout, pixels, soft-caps and window, keys, and what stays."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import pgbench
from pgbench.backends.paligemma import engine
from pgbench.backends.paligemma.decoding import decode
from pgbench.backends.paligemma.pixels import resize, value_range
from pgbench.batch import Cell, prepare
from pgbench.cli import invoke
from pgbench.errors import UsageError
from pgbench.recipe.read import read
from pgbench.registry import load_task
from pgbench.samples import read_lines
from pgbench.specs import cell_name, expand
from pgbench.store import plain
from pgbench.types import (
    IMAGE_RULE,
    PAPER_RULE,
    DataSource,
    Family,
    ModelRequest,
    Pixels,
    Request,
    Sample,
    Sweep,
)

LONG = Pixels(antialias=True, text_len=512)
# soft-caps and window are Gemma 2's
gemma2 = pytest.mark.parametrize("family", ["paligemma2"], indirect=True)


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def folder(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model") / f"{family}-mix-28", family)


@pytest.fixture(scope="module")
def published(folder: Path) -> Any:
    return tiny.load(folder)


@pytest.fixture(scope="module")
def paper(folder: Path) -> Any:
    return tiny.load(folder, protocol="paper")


def asked(prompt: str, pixels: Pixels | None = LONG, images: int = 1) -> Request:
    return Request("q", tuple(tiny.picture(n, side=50) for n in range(images)), prompt, 4, pixels=pixels)


def windowed(folder: Path, target: Path, window: int) -> Path:
    copy = tiny.copied(folder, target)
    text = json.loads((copy / "config.json").read_text())["text_config"]
    tiny.edit_json(copy / "config.json", text_config=text | {"sliding_window": window})
    return copy


# The prefix


@pytest.mark.parametrize(
    "prompt", ["answer en what?", "caption en", "", "ünïcode 標識", "<loc0012> x", "a\nb"]
)
@pytest.mark.parametrize("images", [1, 2])
def test_both_protocols_give_the_same_tokens(published: Any, paper: Any, prompt: str, images: int) -> None:
    one, other = (model.prepare(asked(prompt, images=images)) for model in (published, paper))
    assert one.ids == other.ids
    assert one.inputs.types.equal(other.inputs.types)
    assert one.length == other.length == len(one.ids)


def test_the_separator_is_a_token_of_its_own(published: Any, paper: Any) -> None:
    """Behind a newline it would be merged with it."""
    one, other = (model.prepare(asked("answer en what?\n")).ids for model in (published, paper))
    assert one != other
    assert other[-2] == other[-1] != one[-1]


@pytest.mark.parametrize("text_len", [1, 4, 9])
def test_what_is_too_long_loses_its_end_and_the_separator(paper: Any, text_len: int) -> None:
    whole = paper.prepare(asked("answer en what colour is the sign?")).ids
    cut = paper.prepare(asked("answer en what colour is the sign?", Pixels(True, text_len))).ids
    assert cut == whole[: tiny.IMAGE_TOKENS + text_len]
    assert cut[-1] != whole[-1]


def test_a_cap_that_fits_cuts_nothing(paper: Any) -> None:
    whole = paper.prepare(asked("what?"))
    fits = Pixels(True, len(whole.ids) - tiny.IMAGE_TOKENS)
    assert paper.prepare(asked("what?", fits)).ids == whole.ids
    assert paper.prepare(asked("what?", replace(fits, text_len=fits.text_len - 1))).ids == whole.ids[:-1]


def test_the_published_processor_cuts_nothing(published: Any) -> None:
    whole = published.prepare(asked("answer en what?", None))
    assert published.prepare(asked("answer en what?", Pixels(True, 1))).ids == whole.ids


def test_a_task_is_asked_with_its_white_space(folder: Path) -> None:
    """Taken off for the published processor alone, which would merge it with its newline."""
    task = replace(load_task("textvqa"), prompt=lambda sample, profile, variant: "caption en\n ")
    sample = Sample("1", (tiny.picture(1),), "", None)
    found = []
    for protocol in ("hf", "paper"):
        point = engine(ModelRequest(str(folder), protocol=protocol, device="cpu")).checkpoint
        source = DataSource("hub", "x")
        (spec,) = expand(Sweep(((task, "default", "val", source),), (point,)))
        cell = Cell(spec, task, "", None, None)  # type: ignore[arg-type]
        cell = replace(cell, dataset=pgbench.Dataset((sample,), "", "x"))
        found.append(prepare(cell, _Echo(), sample))  # type: ignore[arg-type]
    assert [request.prompt for request in found] == ["caption en", "caption en\n "]  # type: ignore[union-attr]
    assert {request.pixels for request in found} == {task.pixels}  # type: ignore[union-attr]


class _Echo:
    def prepare(self, request: Request) -> Request:
        return request


# Pixels


@pytest.mark.parametrize("antialias", [True, False])
def test_pixels_are_tensorflows(published: Any, paper: Any, antialias: bool) -> None:
    request = asked("what?", Pixels(antialias, 32))
    picture = decode(request.images[0].read())
    found = paper.prepare(request).inputs.pixels
    expected = value_range(resize(picture, tiny.SIDE, antialias=antialias))
    assert np.array_equal(found.numpy(), expected[None])
    assert found.shape == published.prepare(request).inputs.pixels.shape
    assert not found.equal(published.prepare(request).inputs.pixels)
    assert not found.equal(paper.prepare(asked("what?", Pixels(not antialias, 32))).inputs.pixels)


def test_the_stack_and_the_key_say_which(published: Any, paper: Any) -> None:
    one, other = published.describe().numerics, paper.describe().numerics
    assert one["image_processor"] == "pil"
    assert {"prefix", "soft-caps", "window"} & {*one} == set()
    assert other["image_processor"] != "pil"
    assert "text_len" in other["prefix"]
    keys = {
        published.prepare(asked("what?")).request_key,
        *(paper.prepare(asked("what?", Pixels(flag, 32))).request_key for flag in (True, False)),
    }
    assert len(keys) == 3
    assert paper.prepare(asked("what?", Pixels(True, 99))).request_key in keys  # it cuts nothing


def test_a_request_without_its_tasks_pixels_is_a_mistake(paper: Any) -> None:
    with pytest.raises(TypeError, match="needs a request with its task's pixels"):
        paper.prepare(asked("what?", None))


# Soft-caps and window


@gemma2
@pytest.mark.parametrize(("kind", "caps"), [("mix", None), ("pt", (50.0, 30.0))])
def test_soft_caps_are_off_where_the_transfers_had_none(
    folder: Path, family: Family, tmp_path: Path, kind: str, caps: tuple[float, float] | None
) -> None:
    model = tiny.load(tiny.copied(folder, tmp_path / f"{family}-{kind}-28"), protocol="paper")
    text = model._loaded.model.config.text_config
    found = text.attn_logit_softcapping, text.final_logit_softcapping
    layers = model._loaded.model.model.language_model.layers
    assert found == (caps or (None, None))
    assert {layer.self_attn.attn_logit_softcapping for layer in layers} == {found[0]}
    assert model.describe().numerics["soft-caps"] == ("50, 30" if caps else "off, off")


@gemma2
def test_logits_are_not_capped(folder: Path, family: Family, published: Any, paper: Any) -> None:
    """30 * tanh(x / 30), undone, is what the head gave: caps of the head alone, attention being equal."""
    capped, plain_ones = (logits(model, asked("what?")) for model in (published, paper))
    assert capped.abs().max() <= 30
    assert not capped.equal(plain_ones)
    head = paper._loaded.model
    head.config.text_config.final_logit_softcapping = 30.0
    again = logits(paper, asked("what?"))
    head.config.text_config.final_logit_softcapping = None
    assert (30 * (plain_ones / 30).tanh()).allclose(again, atol=1e-5)


def logits(model: Any, request: Request) -> Any:
    import torch

    inputs = model._collate([model.prepare(request).inputs])
    with torch.inference_mode():
        return model._loaded.model(**inputs).logits[:, -1]


@gemma2
def test_decoding_sees_the_first_image_tokens(folder: Path, family: Family, tmp_path: Path) -> None:
    """A window shorter than the prompt changes no answer under the paper protocol, and does otherwise."""
    short, long = (windowed(folder, tmp_path / str(n) / "paligemma2-mix-28", n) for n in (6, 4096))
    questions = [replace(tiny.question(seed, 6), pixels=LONG) for seed in range(8)]

    def answers(at: Path, protocol: str) -> list[tuple[int, ...]]:
        model = tiny.load(at, protocol=protocol)
        return [model.generate([model.prepare(one)])[0].token_ids for one in questions]

    assert answers(short, "paper") == answers(long, "paper")
    assert answers(short, "hf") != answers(long, "hf")


@gemma2
def test_with_and_without_cache_agree_beyond_the_window(folder: Path, family: Family, tmp_path: Path) -> None:
    """The step behind the prompt, cached, is the same as in one pass over it all."""
    import torch

    backend = tiny.load(windowed(folder, tmp_path / "paligemma2-mix-28", 6), protocol="paper")
    assert backend.describe().numerics["window"] == "off"
    inputs = backend._collate([backend.prepare(asked("answer en what colour?")).inputs])
    model, one = backend._loaded.model, torch.ones(1, 1, dtype=torch.long)
    with torch.inference_mode():
        first = model(**inputs, use_cache=True)
        mask = torch.cat([inputs["attention_mask"], one], 1)
        length = inputs["input_ids"].shape[1]
        cached = model(
            input_ids=7 * one,
            attention_mask=mask,
            past_key_values=first.past_key_values,
            position_ids=(length + 1) * one,  # PaliGemma counts from 1
        ).logits[:, -1]
        whole = model(
            input_ids=torch.cat([inputs["input_ids"], 7 * one], 1),
            attention_mask=mask,
            token_type_ids=torch.cat([inputs["token_type_ids"], one], 1),
            mm_encoder_outputs=inputs["mm_encoder_outputs"],
        ).logits[:, -1]
    assert cached.allclose(whole, atol=1e-3, rtol=1e-4)


# Pictures reduced first


@pytest.mark.parametrize("protocol", ["hf", "paper"])
def test_pictures_are_reduced_by_the_protocols_own_filter(
    folder: Path, published: Any, paper: Any, protocol: str
) -> None:
    reduced = tiny.load(folder, protocol=protocol, pixels_from=9)
    plain_one = paper if protocol == "paper" else published
    request = asked("what?")
    found = reduced.prepare(request)
    assert not found.inputs.pixels.equal(plain_one.prepare(request).inputs.pixels)
    if protocol == "paper":
        small = resize(decode(request.images[0].read()), 9, antialias=True)
        expected = value_range(resize(small, tiny.SIDE, antialias=True))[None]
    else:
        from PIL import Image

        from pgbench.sources.images import decode as upright_on_white

        small_one = upright_on_white(request.images[0].read()).resize((9, 9), Image.Resampling.BICUBIC)
        expected = published._loaded.processor(images=[small_one], text=["<image>"], return_tensors="np")[
            "pixel_values"
        ]
    assert np.array_equal(found.inputs.pixels.numpy(), expected)
    assert found.ids == plain_one.prepare(request).ids
    assert found.request_key != plain_one.prepare(request).request_key


@pytest.mark.parametrize("pixels_from", [0, -4, 28, 29])
def test_reducing_to_as_much_is_refused(folder: Path, pixels_from: int) -> None:
    with pytest.raises(UsageError, match=f"--pixels-from {pixels_from}: .* has 28 px; expected fewer"):
        engine(ModelRequest(str(folder), pixels_from=pixels_from, device="cpu"))


# Cells


def test_cells_of_two_protocols_are_two_runs(tmp_path: Path) -> None:
    found = {}
    for name, options in {
        "hf": {},
        "paper": {"protocol": "paper"},
        "reduced": {"protocol": "paper", "pixels_from": 14},
    }.items():
        found[name] = pgbench.run("textvqa", dtype="float32", limit=4, batch_size=2, out=tmp_path, **options)  # type: ignore[arg-type]
    assert len({ran.record.key for ran in found.values()}) == 3
    assert [cell_name(ran.record.spec).split("fp32")[1] for ran in found.values()] == [
        "",
        "_paper",
        "_paper_from14px",
    ]
    assert [ran.record.spec.images for ran in found.values()] == [IMAGE_RULE, PAPER_RULE, PAPER_RULE]
    assert not any(ran.record.cost.reused for ran in found.values())
    assert all(math.isfinite(ran.record.scores["accuracy"].value or 0) for ran in found.values())


def test_white_space_that_the_paper_keeps_is_no_other_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stored prompt is what was asked: cut off under hf, whole under paper; rescored and compared all the
    same."""
    (tmp_path / "a.png").write_bytes(tiny.picture(0).read())
    data = tmp_path / "my.jsonl"
    record = {"id": 1, "image": "a.png", "prompt": "caption en ", "answers": ["red"]}
    data.write_text(json.dumps(record), "utf-8")
    folders, prompts = [], []
    for protocol in ("hf", "paper"):
        ran = pgbench.run(
            "custom", "tiny-gemma", protocol=protocol, data=data, dtype="float32", out=tmp_path / "out"
        )
        folders.append(str(ran.folder))
        prompts.append(next(iter(read_lines(ran.folder))).prompt)
    assert prompts == ["caption en", "caption en "]
    assert invoke(["rescore", str(tmp_path / "out"), "--force", "--data", str(data)]) == 0
    assert "2 rescored" in capsys.readouterr().out
    assert invoke(["compare", *folders]) == 0


def test_the_default_is_what_it_was(folder: Path) -> None:
    point = engine(ModelRequest(str(folder), device="cpu")).checkpoint
    assert (point.protocol, point.pixels_from) == ("hf", None)
    assert plain(point) == plain(engine(ModelRequest(str(folder), protocol="hf", device="cpu")).checkpoint)


def test_a_sweep_can_compare_the_protocols() -> None:
    points = [{"model": "tiny-gemma", "protocol": "paper", "pixels_from": 14}, "tiny-gemma"]
    found = read(None, {"checkpoints": points, "tasks": ["textvqa"]})
    assert [(cell.model.protocol, cell.model.pixels_from) for cell in found] == [("paper", 14), ("hf", None)]


@pytest.mark.parametrize("options", [{"protocol": "paper"}, {"pixels_from": 14}])
def test_backends_without_pixels_refuse(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="sees no pixels"):
        pgbench.run("textvqa", backend="oracle", limit=2, **options)
    with pytest.raises(UsageError, match=f"sees no pixels; leave out {next(iter(options))}"):
        read(None, {"checkpoints": [{"backend": "oracle", **options}], "tasks": ["textvqa"]})
