"""Pictures and prompts: the work once for each, and what comes is what the published processor gives."""

from __future__ import annotations

import functools
import hashlib
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from pgbench.errors import SampleError
from pgbench.keys import image_key
from pgbench.types import Image, Pixels, Request


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model") / "paligemma-mix-28", "paligemma")


@pytest.fixture
def model(folder: Path) -> Any:
    """Its own caches, other tests' weights."""
    from pgbench.backends.paligemma.pictures import Pictures

    found = tiny.kept(folder)
    found._pictures = Pictures()
    return found


class Reader:
    """Counts how often a file is read, and decoded by whoever is given it."""

    def __init__(self, data: bytes, seconds: float = 0.0) -> None:
        self.data, self.seconds, self.read = data, seconds, 0

    def __call__(self) -> bytes:
        self.read += 1
        time.sleep(self.seconds)
        return self.data


def counted(made: list[bytes], seconds: float = 0.0) -> Callable[[bytes], Any]:
    import torch

    def pixels(data: bytes) -> Any:
        time.sleep(seconds)
        made.append(data)
        return torch.full((3, 2, 2), float(len(made)))

    return pixels


# Once


def test_a_picture_of_many_questions_is_read_and_made_once() -> None:
    from pgbench.backends.paligemma.pictures import Pictures

    pictures, read, made = Pictures(), Reader(b"one"), list[bytes]()
    image = Image("one.png", read)
    found = [pictures.of(image, counted(made)) for _ in range(5)]
    assert (read.read, len(made)) == (1, 1)
    assert all(one is found[0] for one in found)
    assert found[0].key == hashlib.sha256(b"one").hexdigest() == image_key([b"one"])


def test_equal_files_are_made_once_and_partials_of_one_file_read_once() -> None:
    """Sources make a reader for every sample."""
    from pgbench.backends.paligemma.pictures import Pictures

    pictures, made, read = Pictures(), list[bytes](), list[str]()

    def file(name: object, *, folder: str = "") -> bytes:
        read.append(str(name))
        return b"same"

    of = functools.partial
    keys = {pictures.of(Image("a", of(file, "a", folder="x")), counted(made)).key for _ in range(3)}
    assert (read, len(made)) == (["a"], 1)
    keys.add(pictures.of(Image("b", of(file, "b")), counted(made)).key)
    assert (read, len(made), len(keys)) == (["a", "b"], 1, 1)
    pictures.of(Image("c", of(file, ["no key"])), counted(made))
    assert len(made) == 1


def test_another_rule_makes_other_pixels_of_one_file() -> None:
    from pgbench.backends.paligemma.pictures import Pictures

    pictures, read, made = Pictures(), Reader(b"one"), list[bytes]()
    image = Image("one.png", read)
    one, other = (pictures.of(image, counted(made), rule) for rule in ("on", "off"))
    assert (one.key, one.rule) == (other.key, "on")
    assert not one.pixels.equal(other.pixels)
    assert pictures.of(image, counted(made), "on") is one


def test_threads_that_ask_for_one_picture_do_the_work_once() -> None:
    from pgbench.backends.paligemma.pictures import Pictures

    pictures, made = Pictures(), list[bytes]()
    readers = [Reader(data, 0.02) for data in (b"a", b"b", b"c")]
    images = [Image("same name", reader) for reader in readers] * 8
    start = threading.Barrier(len(images))

    def ask(image: Image) -> Any:
        start.wait()
        return pictures.of(image, counted(made, 0.02))

    with ThreadPoolExecutor(len(images)) as workers:
        found = list(workers.map(ask, images))
    assert [reader.read for reader in readers] == [1, 1, 1]
    assert sorted(made) == [b"a", b"b", b"c"]
    assert [one.key for one in found] == [image_key([image.read()]) for image in images]


def test_all_who_ask_read_and_few_decode_at_once() -> None:
    from pgbench.backends.paligemma.pictures import Pictures

    pictures, busy, most, reading = Pictures(at_once=2), 0, 0, threading.Barrier(6, timeout=10)
    lock = threading.Lock()

    def pixels(data: bytes) -> Any:
        nonlocal busy, most
        with lock:
            busy, most = busy + 1, max(most, busy + 1)
        time.sleep(0.02)
        with lock:
            busy -= 1
        return counted([])(data)

    def read(number: int) -> bytes:
        reading.wait()  # it would break if fewer than all six read at once
        return bytes([number])

    images = [Image(str(number), functools.partial(read, number)) for number in range(6)]
    with ThreadPoolExecutor(6) as threads:
        assert len([*threads.map(lambda image: pictures.of(image, pixels), images)]) == 6
    assert most == 2


def test_what_is_kept_is_bounded_and_the_longest_unused_goes() -> None:
    from pgbench.backends.paligemma.once import Once

    made: list[int] = []

    def make(number: int) -> bytes:
        made.append(number)
        return bytes(10)

    once: Once[int, bytes] = Once(35, len)
    for number in (1, 2, 3, 1, 4, 1):  # 2 goes for 4: 1 was asked for again
        once.get(number, functools.partial(make, number))
    assert (made, once.held) == ([1, 2, 3, 4], 30)
    once.get(2, functools.partial(make, 2))
    assert (made, once.held) == ([1, 2, 3, 4, 2], 30)
    assert len(once.get(9, lambda: bytes(99))) == 99  # larger than all there may be: kept alone
    assert once.held == 99
    once.get(1, functools.partial(make, 1))
    assert once.held == 10
    once.clear()
    assert once.held == 0


def test_a_picture_that_a_batch_holds_is_not_made_again_however_little_is_kept() -> None:
    """The questions about it that are laid out later come after many other pictures."""
    from pgbench.backends.paligemma.pictures import Pictures

    pictures, made = Pictures(most=1), list[bytes]()
    one, two = (Image(name, Reader(name.encode())) for name in ("one", "two"))
    held: Any = pictures.of(one, counted(made))
    pictures.of(two, counted(made))
    assert pictures.of(one, counted(made)) is held
    assert made == [b"one", b"two"]
    del held
    pictures.of(two, counted(made))
    pictures.of(one, counted(made))
    assert made == [b"one", b"two", b"two", b"one"], "what nobody holds is let go"


def test_a_picture_asked_for_while_it_is_held_is_kept_as_any_that_was_just_asked_for() -> None:
    from pgbench.backends.paligemma.pictures import Pictures

    room, made = counted([])(b"").nbytes, list[bytes]()
    pictures = Pictures(most=2 * room)
    one, two, three = (Image(name, Reader(name.encode())) for name in ("one", "two", "three"))
    held: Any = pictures.of(one, counted(made))
    pictures.of(two, counted(made))
    assert pictures.of(one, counted(made)) is held
    pictures.of(three, counted(made))  # the second one goes: it was not asked for as long
    del held
    pictures.of(one, counted(made))
    assert made == [b"one", b"two", b"three"]


def test_pictures_are_decoded_on_the_processors_that_the_model_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pgbench.backends.paligemma import pictures

    for there, free in ((1, (1, 1, 1)), (2, (2, 1, 1)), (64, (4, 4, 4))):
        monkeypatch.setattr(pictures, "usable", lambda there=there: there)
        assert tuple(map(pictures.spare, (0, 1, 4))) == free, there


def test_a_prompt_that_comes_again_is_tokenized_once_and_few_are_kept(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pgbench.backends.paligemma import prompts

    monkeypatch.setattr(prompts, "_KEPT", 20_000)
    processor, asked = model._loaded.processor, list[str]()
    tokens = prompts.Tokens(processor.tokenizer, model._lock)
    found = prompts.Prompts(processor, tokens, model._lock)
    ids = tokens.ids

    def counted_ids(_self: object, text: str) -> list[int]:
        asked.append(text)
        return ids(text)

    monkeypatch.setattr(prompts.Tokens, "ids", counted_ids)
    first = found.of("answer en what?", 1)
    assert found.of("answer en what?", 1) is first
    assert [*first.tokens] == first.ids.tolist()
    assert len(asked) == 1
    assert len(found.of("answer en what?", 2).tokens) == len(first.tokens) + tiny.IMAGE_TOKENS
    for number in range(50):
        found.of(f"answer en {number}", 1)
    assert found._known.held <= 20_000
    found.of("answer en what?", 1)
    assert len(asked) == 53


def test_many_different_short_prompts_take_no_more_memory_than_they_may(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands around a few tokens is more than they are."""
    from pgbench.backends.paligemma import prompts

    monkeypatch.setattr(prompts, "_KEPT", 1_000_000)
    found = prompts.Prompts(
        model._loaded.processor, prompts.Tokens(model._tokenizer, model._lock), model._lock
    )
    monkeypatch.setattr(prompts.Tokens, "ids", lambda self, text: [2, 7, 8, 108])
    tracemalloc.start()
    for number in range(2000):
        found.of(f"answer en {number}", 1)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 1_000_000  # of Python's; the memory of two small tensors is not traced


def test_of_equal_files_that_are_broken_each_is_named_to_the_one_who_asked() -> None:
    """Also where one waits for the other: which of them is first is chance, and errors are in the record."""
    from pgbench.backends.paligemma.pictures import Pictures

    def broken(_data: bytes) -> Any:
        time.sleep(0.05)
        raise SampleError("not an image")

    pictures, start = Pictures(), threading.Barrier(3)
    images = [Image(name, Reader(b"torn")) for name in "abc"]

    def ask(image: Image) -> str:
        start.wait()
        with pytest.raises(SampleError) as error:
            pictures.of(image, broken)
        return str(error.value)

    with ThreadPoolExecutor(3) as workers:
        assert list(workers.map(ask, images)) == [f"image {name}: not an image" for name in "abc"]


def test_what_is_forgotten_while_it_is_finished_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from pgbench.backends.paligemma.once import Once

    once: Once[int, bytes] = Once(100, len)
    clearing = threading.Thread(target=once.clear)
    finish = Future.set_result

    def finished(self: Any, value: Any) -> None:
        finish(self, value)
        clearing.start()
        clearing.join(0.1)

    monkeypatch.setattr(Future, "set_result", finished)
    once.get(1, lambda: bytes(10))
    clearing.join()
    assert once.held == 0


def test_what_is_forgotten_while_it_is_made_is_made_anew() -> None:
    from pgbench.backends.paligemma.once import Once

    once: Once[int, bytes] = Once(100, len)
    for forget in (lambda: once.forget(1), once.clear):

        def make(forget: Callable[[], None] = forget) -> bytes:
            forget()
            assert once.get(1, lambda: b"later") == b"later"
            return bytes(10)

        once.forget(1)
        assert once.get(1, make) == bytes(10)
        assert (once.get(1, lambda: b"never"), once.held) == (b"later", 5)


def test_who_was_forgotten_leaves_the_place_to_who_came_after() -> None:
    from pgbench.backends.paligemma.once import Once

    once: Once[int, bytes] = Once(100, len)
    begun, go_on = threading.Event(), threading.Event()

    def later() -> bytes:
        begun.set()
        assert go_on.wait(10)
        return b"later"

    with ThreadPoolExecutor(1) as workers:

        def make() -> bytes:
            once.forget(1)
            found.append(workers.submit(once.get, 1, later))
            assert begun.wait(10)
            return bytes(10)

        found: list[Future[bytes]] = []
        assert once.get(1, make) == bytes(10)
        assert once.held == 0
        go_on.set()
        assert found[0].result() == b"later"
    assert (once.get(1, lambda: b"never"), once.held) == (b"later", 5)


def test_what_failed_is_tried_again() -> None:
    from pgbench.backends.paligemma.pictures import Pictures

    pictures, made, gone = Pictures(), list[bytes](), [True]

    def read() -> bytes:
        if gone[0]:
            raise FileNotFoundError(2, "No such file or directory")
        return b"back"

    image = Image("a.png", read)
    for _ in range(2):
        with pytest.raises(SampleError, match=r"cannot read image a\.png: No such file"):
            pictures.of(image, counted(made))
    gone.clear()
    gone.append(False)
    assert pictures.of(image, counted(made)).key == image_key([b"back"])


def test_a_broken_picture_names_its_own_file(model: Any) -> None:
    """Though files of equal bytes are looked at once."""
    for name in ("a.png", "b.png"):
        with pytest.raises(SampleError, match=f"image {name}: not an image"):
            model.prepare(Request("q", (Image(name, lambda: b"never one"),), "what?", 4))


def test_a_file_that_changed_is_not_taken_for_the_old_one() -> None:
    from pgbench.backends.paligemma.pictures import Pictures

    pictures, made, reader = Pictures(most=1), list[bytes](), Reader(b"one")
    image = Image("a.png", reader)
    before = pictures.of(image, counted(made)).key
    pictures.of(Image("b.png", Reader(b"two")), counted(made))  # the first one's pixels go
    reader.data = b"edited"
    with pytest.raises(SampleError, match=r"a\.png was changed while it was in use"):
        pictures.of(image, counted(made))
    assert pictures.of(image, counted(made)).key == image_key([b"edited"]) != before


def test_a_request_has_the_key_of_its_files(model: Any) -> None:
    images = (tiny.picture(1), tiny.picture(2))
    for shown in (images[:1], images):
        prepared = model.prepare(Request("q", shown, "what?", 4))
        assert prepared.image_key == image_key([image.read() for image in shown])


# As the published processor


@pytest.mark.parametrize("changes", [{}, {"resample": 2}, {"image_mean": [0.48, 0.45, 0.4]}, {"side": 6}])
def test_pixels_are_those_of_the_processor_bit_for_bit(folder: Path, changes: dict[str, Any]) -> None:
    """A side of 6 has fewer pixels than there are levels."""
    import numpy as np
    from PIL import Image as Pillow
    from transformers import AutoProcessor

    from pgbench.backends.paligemma.pictures import Published

    processor = AutoProcessor.from_pretrained(folder, backend="pil").image_processor
    for name, value in changes.items():
        if name == "side":
            processor.size = type(processor.size)(height=value, width=value)
        else:
            setattr(processor, name, value)
    published = Published(processor)
    assert published.direct
    drawn = np.random.default_rng(1)
    for size in ((28, 28), (28, 90), (5, 3), (300, 41)):
        picture = Pillow.fromarray(drawn.integers(0, 256, (*size, 3), dtype=np.uint8))
        assert published.pixels(picture).equal(processor(picture, return_tensors="pt")["pixel_values"][0])


def test_a_processor_that_does_something_else_is_asked_every_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image as Pillow
    from transformers import AutoProcessor

    from pgbench.backends.paligemma.pictures import Published

    processor = AutoProcessor.from_pretrained(folder, backend="pil").image_processor
    resize = type(processor).resize

    def mirrored(self: Any, image: Any, *args: Any, **kwargs: Any) -> Any:
        return resize(self, image, *args, **kwargs)[..., ::-1].copy()

    monkeypatch.setattr(type(processor), "resize", mirrored)
    published = Published(processor)
    assert not published.direct
    picture = Pillow.linear_gradient("L").convert("RGB")
    assert published.pixels(picture).equal(processor(picture, return_tensors="pt")["pixel_values"][0])


def test_prompts_that_differ_from_the_processors_are_left_to_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PaliGemmaProcessor

    plain = tiny.load(folder)
    assert plain.describe().numerics["tokens"] == "by the tokenizer's library"
    laid_out = PaliGemmaProcessor.prepare_inputs_layout

    def shouting(self: Any, images: Any = None, text: Any = None, **kwargs: Any) -> Any:
        return laid_out(self, images, [one.replace("what", "WHAT") for one in text], **kwargs)

    monkeypatch.setattr(PaliGemmaProcessor, "prepare_inputs_layout", shouting)
    other = tiny.load(folder)
    assert other.describe().numerics["tokens"] == "by the processor"
    asked = tiny.question(0)
    loud = replace(asked, prompt="WHAT is it?")
    assert other.prepare(replace(asked, prompt="what is it?")).ids == plain.prepare(loud).ids
    assert other.prepare(loud).request_key != plain.prepare(loud).request_key


@pytest.mark.parametrize("protocol", ["hf", "paper"])
def test_a_tokenizer_whose_library_says_something_else_is_asked_itself(
    folder: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pgbench.backends.paligemma.prompts import Tokens

    asked = replace(tiny.question(3), pixels=Pixels(True, 64))
    plain = tiny.load(folder, protocol=protocol).prepare(asked)
    encoded = Tokens._encoded
    monkeypatch.setattr(Tokens, "_encoded", lambda self, text: encoded(self, text)[:-1])
    other = tiny.load(folder, protocol=protocol)
    assert other.describe().numerics["tokens"] == "by the tokenizer"
    assert other.prepare(asked).ids == plain.ids
