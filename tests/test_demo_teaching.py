"""How the demo checkpoints are taught: the real format, true labels, the same weights from the same seed."""

from __future__ import annotations

import hashlib
import io
import itertools
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pgbench.demo import teach
from pgbench.demo.lettering import CHARACTERS
from pgbench.demo.questions import KINDS, LAYOUTS, taught
from pgbench.demo.teaching import asking, fitting
from pgbench.demo.teaching.architecture import Size, build, tokenizer
from pgbench.demo.teaching.packing import IGNORED, Words, alone, logits, pack
from pgbench.demo.teaching.pupil import kept_at, pupil
from pgbench.demo.teaching.stages import STAGES
from pgbench.demo.teaching.tower import OBJECTS, Album, heads, labels, pixels
from pgbench.demo.words import WORDS
from pgbench.demo.world import COLOURS, SHAPES, draw, scene
from pgbench.errors import DataError


@pytest.fixture(scope="module")
def words() -> Any:
    return tokenizer()


def test_lettering_is_spelt_character_by_character(words: Any) -> None:
    assert [words.tokenize(text) for text in WORDS] == [list(text) for text in WORDS]
    assert all(len(words.tokenize(one + two)) == 2 for one, two in itertools.product(CHARACTERS, repeat=2))


def test_any_text_survives_the_tokenizer(words: Any) -> None:
    for text in ("is there a red circle?\n", "图中有几个圆形？", "The sign says TAXI.", "žluťoučký €5"):
        assert words.decode(words(text, add_special_tokens=False)["input_ids"]) == text


def pairs(model_words: Words) -> list[Any]:
    one = scene("train", 3)
    asked = [(KINDS[kind](one, random.Random("1")), kind) for kind in ("sign", "choice", "exists", "label")]
    return [model_words.pair(*taught(question, LAYOUTS[kind][-1])) for question, kind in asked if question]


@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
def test_one_question_alone_is_the_real_format(family: Any) -> None:
    """Prompt, mask, positions, soft-caps: the scores that the model gives what its processor made."""
    size = Size(112)
    model, processor = build(family, size, 0)
    model.eval()
    one = scene("train", 3)
    question = KINDS["choice"](one, random.Random("1"))
    assert question is not None
    prompt, answer = taught(question, "science")
    batch = processor(
        images=[Image.open(io.BytesIO(draw(one)))],
        text=[f"<image>{prompt}"],
        suffix=[answer],
        return_tensors="pt",
    )
    shown = pixels([one], Album(size))
    torch.testing.assert_close(shown, batch["pixel_values"])
    packed = alone([Words(processor.tokenizer).pair(prompt, answer)], size.tokens)
    with torch.inference_mode():
        real = model(**batch).logits[0, :-1][batch["labels"][0, 1:] != IGNORED]
        features = model.model.vision_tower(pixel_values=shown).last_hidden_state
        torch.testing.assert_close(logits(model, features, packed), real, rtol=1e-4, atol=1e-4)


def test_questions_of_a_pack_do_not_see_each_other() -> None:
    size = Size(112)
    model, processor = build("paligemma", size, 0)
    asked = pairs(Words(processor.tokenizer))
    with torch.inference_mode():
        features = model.model.vision_tower(
            pixel_values=pixels([scene("train", 3)], Album(size))
        ).last_hidden_state
        together = logits(model, features, pack([asked], size.tokens))
        apart = [logits(model, features, pack([[pair]], size.tokens)) for pair in asked]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [224, 448])
def test_heads_are_taught_what_is_there(side: int) -> None:
    size = Size(side)
    drawn = [scene("test", index) for index in range(20)]
    found = labels(drawn, size)
    for head in heads(size):
        assert found[head.name].shape == (20, size.tokens, head.slots)
        assert int(found[head.name].max()) < head.classes
    for number, one in enumerate(drawn):
        for kind, text in (("sign", one.sign), ("label", one.label)):
            by_place = found[f"{kind} by place"][number].amax(0).tolist()
            assert "".join(CHARACTERS[place - 1] for place in by_place if place) == text
        centres = found["centre"][number]
        names = [
            list(COLOURS).index(thing.colour) * len(SHAPES) + SHAPES.index(thing.shape)
            for thing in one.things
        ]
        assert sorted(centres[centres > 0].tolist()) == sorted(1 + name for name in names)
        assert set(found["object"][number].unique().tolist()) == {0, *(1 + name for name in names)}
    assert OBJECTS == 19


def trial(out: Path, *options: str) -> str:
    teach.main([str(out), "trial", *options])
    return hashlib.sha256((out / "trial" / "model.safetensors").read_bytes()).hexdigest()


def test_the_same_seed_gives_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """50 steps, twice; then cut off and taken up again; then with another seed."""
    assert sum((STAGES["trial"].look, STAGES["trial"].answer, STAGES["trial"].settle)) == 50
    monkeypatch.setattr(asking, "HELD_OUT", 8)
    first = trial(tmp_path / "first")
    monkeypatch.setattr(fitting, "EVERY", 10)
    monkeypatch.setattr(fitting, "KEEP", 5)
    stage, path = STAGES["trial"], kept_at(tmp_path / "second", "trial")
    path.parent.mkdir()

    def cut(line: str) -> None:
        if line.startswith("answer 10/"):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        teach.teach(pupil(stage, path.parent, 0), path, cut)
    assert trial(path.parent) == first
    assert trial(tmp_path / "other", "--seed", "1", "--steps", "1") != first


def test_a_missing_stage_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        teach.main([str(tmp_path), "base"])
    assert "stage look comes first" in capsys.readouterr().err
    with pytest.raises(DataError, match="stage base comes first"):
        pupil(STAGES["mix-448"], tmp_path, 0)
