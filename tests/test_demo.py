"""The embedded default: drawings that are the same everywhere, and checkpoints that look at them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import random
from collections import Counter
from pathlib import Path

import pytest

import pgbench.demo
from pgbench.demo import signs
from pgbench.errors import DataError
from pgbench.profiles import SHIPPED, WORLD
from pgbench.types import DataRequest, Sample

CHECKPOINTS = Path(pgbench.demo.__file__).parent / "checkpoints"
TINY = {"tiny-gemma": "gemma", "tiny-gemma2": "gemma2"}  # that know signs
TEXT_MODELS = {**TINY, "tiny-mix-224": "gemma", "tiny-mix-448": "gemma", "tiny2-mix-224": "gemma2"}


@functools.cache
def samples(split: str) -> tuple[Sample, ...]:
    return tuple(signs.textvqa(DataRequest(split)).samples)


@pytest.mark.parametrize(
    ("split", "index", "digest"),
    [
        ("val", 0, "7f1471b915d5be79b23c5f0cf698650de2ce388785a894514de60065b6ac164b"),
        ("val", 99, "744f12eb31178b38500df5aaae754e4deca24f9d2c5c00d20703448c268f717a"),
        ("train", 0, "ae4a6d819431b30d2a4098cc824faf7b1ff7fa5fe178d632e59bde33a374cdff"),
        ("test", 7, "9e48c04dae247b473c97558b573fa43420151a51e0cf8a3c55c3eee95777c827"),
    ],
)
def test_a_drawing_has_the_same_bytes_everywhere(split: str, index: int, digest: str) -> None:
    drawn = signs.draw(signs.scene(split, index))
    assert hashlib.sha256(drawn).hexdigest() == digest


def test_val_is_pinned() -> None:
    found = signs.textvqa(DataRequest("val"))
    assert found.digest == "5f5bbb81436dbd473268c41180643cd193c3ada1f483b1cbbd353c1e540ac196"
    assert (found.id, found.demo, found.revision, found.missing) == ("demo-signs", True, None, ())


def test_a_drawing_is_a_ppm_with_its_sign_where_the_scene_says() -> None:
    from PIL import Image

    scene = signs.scene("val", 3)
    with Image.open(io.BytesIO(signs.draw(scene))) as opened:
        assert (opened.format, opened.size, opened.mode) == ("PPM", (112, 112), "RGB")
        assert opened.getpixel((scene.x, scene.y)) == signs.COLOURS[scene.colour][0]
        width, height = 7 * scene.scale, 9 * scene.scale
        assert opened.getpixel((scene.x + width - 1, scene.y + height - 1)) == signs.COLOURS[scene.colour][0]


def test_sizes_ids_and_clusters() -> None:
    for split, count in (("val", 200), ("test", 200), ("train", 12_000)):
        found = samples(split)
        assert len({sample.id for sample in found}) == len(found) == count
        assert set(Counter(sample.cluster for sample in found).values()) == {2}
        assert all(sample.cluster == sample.fields["image_id"] for sample in found)
        assert all(len(sample.cluster) == 6 and sample.cluster.startswith("0") for sample in found)
    assert samples("val")[0].id == "010000-text"


def test_no_split_shares_an_image_or_a_place() -> None:
    names = ("train", "val", "test")
    drawn = {split: {sample.images[0].read() for sample in samples(split)[::2]} for split in names}
    assert {split: len(files) for split, files in drawn.items()} == {"train": 6_000, "val": 100, "test": 100}
    assert not drawn["train"] & drawn["val"]
    assert not drawn["train"] & drawn["test"]
    assert not drawn["val"] & drawn["test"]
    corners = [{place[1:] for place in signs.places(split.folds)} for split in signs.SPLITS.values()]
    assert sum(map(len, corners)) == len(set().union(*corners))


def test_ten_annotators_who_mostly_agree() -> None:
    dissenting = 0
    for sample in samples("val"):
        assert sample.target is not None
        (most, agreeing), *_ = Counter(sample.target).most_common()
        assert len(sample.target) == 10
        assert agreeing >= 5  # so that the plain answer, which models are trained on, scores 1
        assert most in (signs.GLYPHS if sample.groups["asks"] == "text" else signs.COLOURS)
        plain = {answer.lower().rstrip(".") for answer in sample.target}
        assert len(plain) <= 2
        dissenting += len(plain) == 2
    assert 20 <= dissenting <= 60
    spellings = {answer for sample in samples("val") for answer in sample.target or ()}
    assert {"E", "e.", "Red", "red."} <= spellings


@pytest.mark.parametrize("split", ["val", "train"])
def test_every_answer_is_asked_for(split: str) -> None:
    asked = {Counter(sample.target).most_common(1)[0][0] for sample in samples(split) if sample.target}
    assert asked == {*signs.GLYPHS, *signs.COLOURS}


def test_the_test_split_has_no_answers() -> None:
    assert {sample.target for sample in samples("test")} == {None}
    with pytest.raises(DataError, match="chance needs answers"):
        signs.chance(samples("test"))


def test_chance_is_the_best_constant_of_each_phrasing() -> None:
    answers = ["red", "red", "blue", "e", "h"]
    questions = ["what color?"] * 3 + ["what letter?"] * 2
    rows = [
        Sample(id=str(number), images=(), question=question, target=(answer,) * 9 + ("x",))
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True))
    ]
    assert signs.chance(rows) == pytest.approx((2 + 1) / 5)


@pytest.mark.parametrize("split", ["val", "train"])
def test_chance_is_at_most_a_quarter(split: str) -> None:
    assert 1 / 8 <= signs.chance(samples(split)) <= 0.25


def test_a_split_that_is_not_drawn() -> None:
    with pytest.raises(
        DataError, match=r"unknown split of the demo 'vla'; did you mean val\?.* test, train, val"
    ):
        signs.textvqa(DataRequest("vla"))


@pytest.mark.parametrize("given", ["path", "id", "revision"])
def test_the_demo_takes_no_data(given: str) -> None:
    flag = {"path": "--data", "id": "--data-id", "revision": "--data-revision"}[given]
    with pytest.raises(DataError, match=f"cannot take {flag} 'mine'"):
        signs.textvqa(dataclasses.replace(DataRequest("val"), **{given: "mine"}))


def test_the_checkpoints_are_small() -> None:
    """And what is said of their bytes and hashes is true."""
    said = (CHECKPOINTS / "README.md").read_text()
    sizes = {name: sum(file.stat().st_size for file in (CHECKPOINTS / name).iterdir()) for name in SHIPPED}
    world = sum(sizes[name] for name in WORLD)
    assert world <= 12_000_000
    assert f"{sum(sizes.values()):,} bytes" in said
    assert f"{world:,} of them" in said
    assert {path.name for path in CHECKPOINTS.iterdir()} == {*SHIPPED, "README.md"}
    for name in SHIPPED:
        digest = hashlib.sha256((CHECKPOINTS / name / "model.safetensors").read_bytes()).hexdigest()
        assert f"| `{name}` | `{digest}` |" in said


@pytest.mark.parametrize("name", SHIPPED)
def test_a_checkpoint_is_a_paligemma_on_disk(name: str) -> None:
    config = json.loads((CHECKPOINTS / name / "config.json").read_text())
    text = config["text_config"]
    assert config["architectures"] == ["PaliGemmaForConditionalGeneration"]
    assert text["model_type"] == TEXT_MODELS[name]
    assert config["vision_config"]["image_size"] == int(name[-3:] if "mix" in name else 56)
    if TEXT_MODELS[name] == "gemma2":
        assert (text["attn_logit_softcapping"], text["final_logit_softcapping"]) == (50.0, 30.0)
        assert (text["query_pre_attn_scalar"], text["sliding_window"]) == (text["head_dim"], 4096)
    words = json.loads((CHECKPOINTS / name / "tokenizer.json").read_text())
    ids = {token["content"]: token["id"] for token in words["added_tokens"]}
    assert config["image_token_index"] == ids["<image>"] < text["vocab_size"]
    assert {"<loc0000>", "<loc1023>", "<seg000>", "<seg127>"} <= set(ids)
    generation = json.loads((CHECKPOINTS / name / "generation_config.json").read_text())
    for made in (config, text, generation):
        found = (made["pad_token_id"], made["eos_token_id"], made["bos_token_id"])
        assert found == (ids["<pad>"], ids["<eos>"], ids["<bos>"]) == (0, 1, 2)


@pytest.mark.parametrize("name", TINY)
def test_a_checkpoint_answers_from_the_image(name: str) -> None:
    """Exact match on held-out signs, and on the same questions with other questions' images."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from pgbench.demo.train import answers, encode, exact_match

    torch.set_num_threads(1)
    folder = CHECKPOINTS / name
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype="float32", local_files_only=True).eval()
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    asked = samples("val")[:80]
    assert encode(processor, asked)["attention_mask"].sum(dim=1).unique().numel() >= 3
    assert exact_match(answers(model, processor, asked[:40]), asked[:40]) > 0.6

    order = list(asked)
    random.Random("shuffled").shuffle(order)
    mixed = [dataclasses.replace(to, images=of.images) for to, of in zip(asked, order, strict=True)]
    # 80 draws at chance have a standard error of 0.04: chance + 0.13 is three of them off.
    assert exact_match(answers(model, processor, mixed), asked) < signs.chance(samples("val")) + 0.13


def test_training_is_deterministic(tmp_path: Path) -> None:
    import torch

    from pgbench.demo.train import Recipe, build, save, train

    torch.set_num_threads(1)
    small = {"hidden": 64, "intermediate": 64, "layers": 1, "batch": 8, "look_steps": 10, "answer_steps": 10}
    made = []
    for number, seed in enumerate((0, 0, 1)):
        recipe = Recipe("paligemma2", seed=seed, **small)
        model, processor = build(recipe)
        train(model, processor, recipe)
        made.append(save(model, processor, tmp_path / str(number)))
    assert made[0] == made[1] != made[2]
