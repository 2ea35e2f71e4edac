"""What the doctor looks at: a loaded backend, questions made up for it, and what passes through the model
while the backend answers them.

Probes ask through `prepare` and `generate`, as a run does, and look with hooks: what is probed is what runs.
"""

from __future__ import annotations

import contextlib
import functools
import io
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Pillow

from pgbench.backends.paligemma.generate import PaliGemma
from pgbench.errors import SampleError
from pgbench.records import Finding
from pgbench.types import Checkpoint, Image, Pixels, Prepared, Reply, Request

Hook = tuple[Any, Callable[..., Any]]  # a module, and a forward hook of it
EQUAL = 0.97  # measured 95 of 96 in bfloat16, 94 of 96 in 8bit on a trained tiny checkpoint
NEW_TOKENS = 6  # of an answer; a flip shows in the first few
_WORDS = (
    "what is the sign red blue left right of how many people dog car house on in a street which colour who "
    "reads where tree big small open window does it say"
).split()
_QUESTIONS = (
    "what colour is the sign?",
    "what does the sign say?",
    "which colour was this sign painted in?",
    "what is the one letter or digit that is written on this sign?",
    "how many signs are in the picture, and where do they stand?",
    "sign?",
)
_WHITE, _BLACK = (240, 240, 240), (16, 16, 16)
_SIGNS = (
    ((212, 32, 32), _WHITE),
    ((24, 168, 48), _WHITE),
    ((32, 56, 216), _WHITE),
    ((236, 216, 32), _BLACK),
    (_WHITE, _BLACK),
    (_BLACK, _WHITE),
)
_BLOCKS = 8  # coarse blocks across a picture: pictures that differ in every patch
_TEXT_LEN = 512  # no prompt of the doctor is cut by the paper protocol
_DOWN = 30000.0  # below every logit, and finite in float16


@dataclass(slots=True)
class Patient:
    """A stack under examination. `again` loads the same checkpoint otherwise, from another folder say."""

    checkpoint: Checkpoint
    backend: PaliGemma
    folder: Path  # of the checkpoint
    again: Callable[..., PaliGemma]  # changes of the ModelRequest -> a loaded backend
    samples: int = 100
    batch: int = 8
    second: bool = True  # a second copy of the weights may be loaded
    equal: float = EQUAL  # share of answers that has to be the same in a batch and alone, below float32
    kept: list[PaliGemma] = field(default_factory=list)

    @property
    def model(self) -> Any:
        return self.backend._loaded.model

    @property
    def text(self) -> Any:
        """The text model, also below an adapter."""
        return _named(self.model, "language_model")

    def limit(self, limits: Mapping[str, float]) -> float:
        """The entry for this level, else for this dtype."""
        level = self.checkpoint.quant
        return limits[level] if level in limits else limits[self.checkpoint.dtype]

    def plain(self) -> PaliGemma:
        """The same weights without quantization, loaded once. Raises what loading raises."""
        if not self.kept:
            self.kept.append(self.again(quant="none"))
        return self.kept[0]

    def close(self) -> None:
        """Let go of what `plain` loaded."""
        while self.kept:
            self.kept.pop().close()


@dataclass(slots=True)
class Seen:
    """What passed through the model, one entry a forward pass; tensors in float32, on the CPU."""

    inputs: list[dict[str, Any]] = field(default_factory=list)  # keywords of the whole model
    embeds: list[torch.Tensor] = field(default_factory=list)  # [rows, length, width] into the text model
    hidden: list[torch.Tensor] = field(default_factory=list)  # [rows, length, width] out of it
    raw: list[torch.Tensor] = field(default_factory=list)  # [rows, vocabulary] out of the output layer
    logits: list[torch.Tensor] = field(default_factory=list)  # [rows, vocabulary] out of the whole model
    replies: Sequence[Reply] = ()


def of_all_tokens(probe: Callable[[Patient], Finding]) -> Callable[[Patient], Finding]:
    """A probe whose matter comes before the last layer, or is every token behind it. Runs compute that layer
    at a prompt's last token alone (last.py); what goes wrong there the probe of the cache finds, which holds
    the steps of answers against whole passes."""

    @functools.wraps(probe)
    def run(patient: Patient) -> Finding:
        backend = patient.backend
        cut = backend._loaded.cut
        backend._loaded = replace(backend._loaded, cut=False)
        try:
            return probe(patient)
        finally:
            backend._loaded = replace(backend._loaded, cut=cut)

    return run


def watch(backend: PaliGemma, batch: Sequence[Prepared], steps: int = 1, hooks: Sequence[Hook] = ()) -> Seen:
    """Answer a batch as a run does and keep what passed in the first `steps` passes.

    `hooks` may change what passes; they come before those that look.
    """
    seen = Seen()
    with passing(backend, seen, steps, hooks):
        seen.replies = backend.generate(batch)
    return seen


@contextlib.contextmanager
def passing(backend: PaliGemma, seen: Seen, steps: int = 1, hooks: Sequence[Hook] = ()) -> Iterator[None]:
    """Keep what passes through the model, whoever calls it."""
    model = backend._loaded.model
    text = _named(model, "language_model")

    def given(_module: object, _args: object, kwargs: dict[str, Any]) -> None:
        if len(seen.inputs) < steps:
            seen.inputs.append({name: kwargs[name] for name in kwargs})

    def entering(_module: object, _args: object, kwargs: dict[str, Any]) -> None:
        if len(seen.embeds) < steps:
            seen.embeds.append(_kept(kwargs["inputs_embeds"]))

    def left(kept: list[torch.Tensor], of: Callable[[Any], torch.Tensor]) -> Callable[..., None]:
        def look(_module: object, _args: object, output: Any) -> None:
            if len(kept) < steps:
                kept.append(_kept(of(output)))

        return look

    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    handles += [
        model.register_forward_pre_hook(given, with_kwargs=True),
        text.register_forward_pre_hook(entering, with_kwargs=True),
        text.register_forward_hook(left(seen.hidden, lambda output: output.last_hidden_state)),
        model.lm_head.register_forward_hook(left(seen.raw, lambda output: output[:, -1])),
        model.register_forward_hook(left(seen.logits, lambda output: output.logits[:, -1])),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def never_stopping(backend: PaliGemma) -> Hook:
    """Answers go on to their limit, so that there is a second pass to look at."""
    stop = list(backend._stop)

    def down(_module: object, _args: object, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.clone()
        logits[..., stop] = -_DOWN
        return logits

    return backend._loaded.model.lm_head, down


def unstopped(backend: PaliGemma, logits: torch.Tensor) -> torch.Tensor:
    """Without what `never_stopping` put down, whose spread is larger than any fault. [..., vocabulary]"""
    kept = torch.ones(logits.shape[-1], dtype=torch.bool)
    kept[list(backend._stop)] = False
    return logits[..., kept]


def question(patient: Patient, seed: int, words: int = 0, new: int = NEW_TOKENS) -> Prepared:
    """A made-up picture and a question about it; so many words instead where some are asked for."""
    drawn = random.Random(seed)
    asked = " ".join(drawn.choices(_WORDS, k=words)) if words else drawn.choice(_QUESTIONS)
    return ask(patient.backend, f"answer en {asked}", (picture(patient, seed),), new)


def ask(backend: PaliGemma, prompt: str, images: tuple[Image, ...], new: int = NEW_TOKENS) -> Prepared:
    return backend.prepare(Request("doctor", images, prompt, new, pixels=Pixels(True, _TEXT_LEN)))


def picture(patient: Patient, seed: int) -> Image:
    """A sign before coarse noise, a third larger than the checkpoint's resolution, as a PNG file."""
    drawn = random.Random(seed)
    side = max(_BLOCKS, patient.checkpoint.resolution * 4 // 3)
    muted = bytes(80 + drawn.randrange(80) for _ in range(3 * _BLOCKS**2))
    found = Pillow.frombytes("RGB", (_BLOCKS, _BLOCKS), muted).resize((side, side), Pillow.Resampling.NEAREST)
    colour, ink = drawn.choice(_SIGNS)
    size = side // drawn.choice((2, 3))
    x, y = (drawn.randrange(side - size) for _ in range(2))
    found.paste(colour, (x, y, x + size, y + size))
    cell = max(1, size // 5)
    for number in range(9):  # something written on it
        if drawn.random() < 0.5:
            left, top = x + (1 + number % 3) * cell, y + (1 + number // 3) * cell
            found.paste(ink, (left, top, left + cell, top + cell))
    return png(found, f"drawn-{seed}.png")


def png(pixels: Any, name: str) -> Image:
    file = io.BytesIO()
    pixels.save(file, "PNG")
    data = file.getvalue()
    return Image(name, lambda: data)


def with_ids(prepared: Prepared, ids: torch.Tensor) -> Prepared:
    """The same question with other tokens."""
    inputs: Any = prepared.inputs
    return replace(prepared, inputs=replace(inputs, ids=ids))


def text_span(patient: Patient, prepared: Prepared) -> tuple[int, int]:
    """First place of the prompt's own words, and the one behind them. Raises SampleError without them."""
    inputs: Any = prepared.inputs
    words = patient.backend._loaded.processor.tokenizer(prepared.request.prompt, add_special_tokens=False)
    own, ids = words["input_ids"], inputs.ids.tolist()
    for start in range(len(ids) - len(own), -1, -1):
        if ids[start : start + len(own)] == own:
            return start, start + len(own)
    raise SampleError("the words of the prompt are not among its tokens")


def wanted_types(patient: Patient, prepared: Prepared) -> torch.Tensor:
    """[length]: 0 where a token is to attend in both directions, by the protocol and not by what the backend
    made of it; of a chat prompt perhaps those of the image alone."""
    inputs: Any = prepared.inputs
    if patient.checkpoint.chat_attention == "causal":
        return (inputs.ids != patient.model.config.image_token_id).long()
    return torch.zeros_like(inputs.ids)


def is_prefix(patient: Patient, prepared: Prepared, place: int) -> bool:
    """Whether a token is to attend in both directions."""
    return int(wanted_types(patient, prepared)[place]) == 0


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """How far logits differ: root mean square of the difference over the spread of `one`; nan stays nan."""
    spread = (one - one.mean(-1, keepdim=True)).norm()
    return float((one - other).norm() / spread)


def _named(model: Any, name: str) -> Any:
    return next(module for path, module in model.named_modules() if path.rpartition(".")[2] == name)


def _kept(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().float().cpu()
