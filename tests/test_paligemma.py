"""The engine: what the model is shown, and what the stack says of it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from pgbench.errors import SampleError
from pgbench.types import Family, Image, Reply, Request

IMAGE, BOS = 1530, 2  # ids of the tiny tokenizer; bos is Gemma's
ASKED = 32


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def original(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model") / f"{family}-mix-28", family)


@pytest.fixture(scope="module")
def model(original: Path) -> Any:
    return tiny.load(original)


@pytest.fixture(scope="module")
def asked(model: Any) -> list[Any]:
    return [model.prepare(tiny.question(seed, max_new_tokens=2)) for seed in range(ASKED)]


@pytest.fixture(scope="module")
def answers(model: Any, asked: list[Any]) -> list[Reply]:
    return list(model.generate(asked))


def tokens(replies: list[Reply]) -> list[tuple[int, ...]]:
    return [reply.token_ids for reply in replies]


# Layout


@pytest.mark.parametrize(
    "prompt",
    ["answer en what?", "caption en", "", "two  blanks", "ünïcode 標識 🚏", "<loc0012> here", "a\nb"],
)
def test_layout_is_image_tokens_bos_prefix_newline(model: Any, prompt: str) -> None:
    """T/common.py of big_vision; the newline is a token of its own."""
    prepared = model.prepare(Request("q", (tiny.picture(1),), prompt, 4))
    words = model._loaded.processor.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    newline = model._loaded.processor.tokenizer("\n", add_special_tokens=False)["input_ids"]
    expected = [IMAGE] * tiny.IMAGE_TOKENS + [BOS] + words + newline
    assert prepared.inputs.ids.tolist() == expected
    assert prepared.inputs.types.tolist() == [0] * len(expected)  # all of it is prefix
    assert prepared.length == len(expected)
    assert len(newline) == 1


@pytest.mark.parametrize("prompt", ["answer en what?", "answer en what? ", "answer en\n", "  lead"])
def test_prompts_are_what_the_published_processor_makes_of_them(
    model: Any, original: Path, prompt: str
) -> None:
    """White space at the end too: it merges with the separator, which is why tasks strip it."""
    prepared = model.prepare(Request("q", (tiny.picture(1),), prompt, 4))
    batch = published(original)(images=pillow(tiny.picture(1)), text="<image>" + prompt, return_tensors="pt")
    assert prepared.inputs.ids.tolist() == batch["input_ids"][0].tolist()
    assert prepared.inputs.pixels.equal(batch["pixel_values"])


def test_several_images_stand_before_one_bos(model: Any) -> None:
    images = (tiny.picture(1), tiny.picture(2), tiny.picture(3))
    one = model.prepare(Request("q", images[:1], "answer en which?", 4))
    three = model.prepare(Request("q", images, "answer en which?", 4))
    ids = three.inputs.ids.tolist()
    assert ids[: 3 * tiny.IMAGE_TOKENS] == [IMAGE] * 3 * tiny.IMAGE_TOKENS
    assert ids[2 * tiny.IMAGE_TOKENS :] == one.inputs.ids.tolist()
    assert three.inputs.pixels.shape == (3, 3, tiny.SIDE, tiny.SIDE)


def test_several_images_reach_their_own_row_in_their_order(model: Any) -> None:
    first, second = tiny.picture(1), tiny.picture(2)
    rows = [(first, second), (second, first), (first,), (second,)]
    prepared = [model.prepare(Request("q", images, "answer en which?", 2)) for images in rows]
    together = tokens(model.generate(prepared))
    assert together == [tokens(model.generate([item]))[0] for item in prepared]
    assert len(set(together)) == len(rows)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request("q", (tiny.picture(1),), "what is <image>?", 4), "holds the image token"),
        (Request("q", (tiny.picture(1),), "what is <eos>?", 4), "control token"),
        (Request("q", (tiny.picture(1),), "<bos>what?", 4), "control token"),
        (Request("q", (tiny.picture(1),), "why? " * 9000, 4), "positions"),
        (Request("q", (), "what?", 4), "has no image"),
        (Request("q", (tiny.picture(1),), "half a pair \ud83d", 4), "not valid Unicode"),
        (Request("q", (Image("a.png", lambda: b"GIF89a"),), "what?", 4), "a.png"),
        (Request("q", (Image("a.png", lambda: Path("/gone").read_bytes()),), "what?", 4), "No such file"),
    ],
)
def test_what_cannot_be_asked_is_a_failed_sample(model: Any, request_: Request, said: str) -> None:
    with pytest.raises(SampleError, match=said) as caught:
        model.prepare(request_)
    assert "\n" not in str(caught.value)


def test_several_threads_may_prepare_at_once(model: Any) -> None:
    """A fast tokenizer refuses two callers: "Already borrowed"."""
    questions = [tiny.question(seed) for seed in range(64)]
    with ThreadPoolExecutor(8) as workers:
        together = list(workers.map(model.prepare, questions))
    assert [item.request_key for item in together] == [model.prepare(one).request_key for one in questions]


# What reaches the model


def test_the_model_sees_types_and_a_left_padded_mask_and_no_labels(model: Any, asked: list[Any]) -> None:
    seen: list[dict[str, Any]] = []
    inner = model._loaded.model
    hook = inner.register_forward_pre_hook(lambda _m, _a, kwargs: seen.append(dict(kwargs)), with_kwargs=True)
    try:
        model.generate(asked[:3])
    finally:
        hook.remove()
    lengths = [item.length for item in asked[:3]]
    longest = max(lengths)
    assert len(set(lengths)) > 1
    assert seen[0]["attention_mask"].tolist() == [[0] * (longest - n) + [1] * n for n in lengths]
    assert seen[0]["token_type_ids"].tolist() == [[0] * longest] * 3
    for row, item in enumerate(asked[:3]):
        assert seen[0]["input_ids"][row, longest - item.length :].tolist() == item.inputs.ids.tolist()
    assert not any("labels" in kwargs for kwargs in seen)


def test_a_causal_prefix_gives_other_answers(model: Any, asked: list[Any], answers: list[Reply]) -> None:
    """What token_type_ids are for: the test above would not notice a model that ignores them."""
    causal = [replace(item, inputs=replace(item.inputs, types=item.inputs.types + 1)) for item in asked]
    same = sum(a == b for a, b in zip(tokens(model.generate(causal)), tokens(answers), strict=True))
    assert same < 16


def test_other_pictures_give_other_answers(model: Any, asked: list[Any], answers: list[Reply]) -> None:
    shifted = [
        replace(item, inputs=replace(item.inputs, pictures=other.inputs.pictures))
        for item, other in zip(asked, [*asked[1:], asked[0]], strict=True)
    ]
    same = sum(a == b for a, b in zip(tokens(model.generate(shifted)), tokens(answers), strict=True))
    assert same < 16


# The stack


def test_the_stack_says_what_computed(model: Any, family: Family) -> None:
    import torch
    import transformers

    stack = model.describe()
    assert stack.backend == "paligemma"
    assert (stack.device, stack.device_name) == ("cpu", "")
    assert stack.threads == torch.get_num_threads() == 1
    assert stack.matmul_precision == torch.get_float32_matmul_precision() == "highest"
    assert stack.versions["transformers"] == transformers.__version__
    assert {"pgbench", "python", "torch", "bitsandbytes", "pillow", "kernels"} <= set(stack.versions)
    assert stack.numerics["image_processor"] == "pil"
    assert type(model._loaded.processor.image_processor).__name__.endswith("Pil")
    assert stack.attention["vision"] == "sdpa"
    assert stack.attention["text"] in (("sdpa",) if family == "paligemma" else ("eager", "grouped"))
    assert {parameter.dtype for parameter in model._loaded.model.parameters()} == {torch.float32}


def test_the_processor_is_asked_for_on_pillow(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torchvision is installed, transformers would take it, and other pixels."""
    from transformers import AutoProcessor

    published_, options = AutoProcessor.from_pretrained, dict[str, Any]()

    def noted(folder: Path, **kwargs: Any) -> Any:
        options.update(kwargs)
        return published_(folder, **kwargs)

    monkeypatch.setattr(AutoProcessor, "from_pretrained", noted)
    tiny.load(original)
    assert options == {"backend": "pil", "local_files_only": True, "trust_remote_code": False}


def test_the_stack_names_no_path_host_or_user(model: Any, original: Path) -> None:
    import getpass
    import socket

    text = json.dumps(asdict(model.describe()))
    for secret in (str(original), str(Path.home()) + "/", socket.gethostname(), f"/{getpass.getuser()}"):
        assert secret not in text


def test_request_keys_tell_requests_apart(model: Any, asked: list[Any]) -> None:
    question = tiny.question(0, max_new_tokens=2)
    variants = [
        question,
        replace(question, prompt="other"),
        replace(question, max_new_tokens=3),
        replace(question, images=(tiny.picture(99),)),
    ]
    keys = [model.prepare(variant).request_key for variant in variants]
    assert len(set(keys)) == len(variants)
    assert keys[0] == asked[0].request_key
    assert model.prepare(replace(question, sample_id="elsewhere", gold="x")).request_key == keys[0]


def test_threads_are_pinned_as_asked(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    try:
        assert tiny.load(original, threads=2).describe().threads == torch.get_num_threads() == 2
        for inherited, expected in {"3": 3, "2,4": 2, "": 1, "many": 1}.items():
            monkeypatch.setenv("OMP_NUM_THREADS", inherited)
            assert tiny.load(original).describe().threads == torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(1)


def test_close_lets_go_of_the_weights(original: Path) -> None:
    import weakref

    loaded = tiny.load(original)
    weights = weakref.ref(loaded._loaded.model)
    peak = loaded.peak_memory()
    assert peak.kind == "process resident"
    assert peak.bytes > loaded.describe().weight_bytes
    loaded.close()
    assert weights() is None
    assert loaded.describe().backend == "paligemma"


def published(folder: Path) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder, backend="pil")


def pillow(image: Image) -> Any:
    import io

    from PIL import Image as PillowImage

    return PillowImage.open(io.BytesIO(image.read())).convert("RGB")
