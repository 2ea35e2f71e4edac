"""Greedy answers from PaliGemma and PaliGemma 2."""

from __future__ import annotations

import dataclasses
import gc
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers import GenerationConfig, LogitsProcessorList

from pgbench.backends import process_peak, start_process_peak
from pgbench.backends.identity import answering, request_key
from pgbench.backends.paligemma import likelihood, placement
from pgbench.backends.paligemma.chat import Turns
from pgbench.backends.paligemma.checkpoint import Files
from pgbench.backends.paligemma.likelihood import Words
from pgbench.backends.paligemma.load import Loaded
from pgbench.backends.paligemma.machine import machine
from pgbench.backends.paligemma.paper import Prefixes, rule
from pgbench.errors import CheckpointError, SampleError, told
from pgbench.keys import image_key, json_key
from pgbench.records import PeakMemory, Stack
from pgbench.sources.images import decode
from pgbench.types import Checkpoint, Image, Prepared, Reply, Request

T = TypeVar("T")
_IMAGE = "<image>"


@dataclass(frozen=True, slots=True)
class Inputs:
    """One prompt, unpadded. ids and types: [length]; pixels: [images, 3, height, width] in float32."""

    ids: torch.Tensor
    types: torch.Tensor
    pixels: torch.Tensor


class FiniteRows:
    """A logits processor that changes nothing and remembers the rows that met nan or inf.

    limits: [rows], the max_new_tokens of each. Logits after a row's last token mean nothing.
    """

    def __init__(self, limits: Sequence[int], stop: Sequence[int]) -> None:
        self.finite = torch.ones(len(limits), dtype=torch.bool)
        self._limits, self._stop = torch.tensor(limits), torch.tensor(stop)
        self._over = torch.zeros(len(limits), dtype=torch.bool)
        self._raw = self.finite
        self._step = 0

    def look(self, _module: object, _inputs: object, logits: torch.Tensor) -> None:
        """Hook of the output layer: Gemma 2's soft-cap turns an overflow into a finite 30."""
        self._raw = torch.isfinite(logits[:, -1]).all(dim=-1).cpu()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._step:  # at the first step the last token is the prompt's
            self._over |= torch.isin(input_ids[:, -1].cpu(), self._stop) | (self._step >= self._limits)
        self._step += 1
        self.finite &= (self._raw & torch.isfinite(scores).all(dim=-1).cpu()) | self._over
        return scores


class PaliGemma:
    """A loaded checkpoint behind the Backend protocol."""

    def __init__(self, checkpoint: Checkpoint, loaded: Loaded, opened: Files | None = None) -> None:
        """`opened`: the files that the checkpoint's revision names."""
        self._loaded, self._opened, self._name = loaded, opened, checkpoint.id
        self._tokenizer = loaded.processor.tokenizer
        self._lock = threading.Lock()  # a fast tokenizer refuses two callers: "Already borrowed"
        self._reduced = checkpoint.pixels_from
        paper = checkpoint.protocol == "paper"
        self._paper = Prefixes(loaded.processor, self._lock, self._reduced) if paper else None
        self._stop = _stop_ids(loaded.model)
        self._pad = _pad_id(loaded)
        chat = checkpoint.chat_attention
        self._chat = Turns(self._name, loaded.processor, self._lock, chat) if chat else None
        if self._chat:
            self._stop = tuple(dict.fromkeys((*self._stop, self._chat.end)))
        end = self._chat.end if self._chat else self._tokenizer.eos_token_id
        self._control = (*self._stop, self._pad, self._tokenizer.bos_token_id)
        control = (*self._control, loaded.processor.image_token_id)
        self._words = Words(self._tokenizer, self._lock, end, control)
        self._answerer = _answerer(checkpoint, loaded)

    def describe(self) -> Stack:
        return self._loaded.stack

    def prepare(self, request: Request) -> Prepared:
        """Image tokens, bos, prefix and newline as the protocol lays them out."""
        if _IMAGE in request.prompt:
            raise SampleError(f"the prompt holds the image token {_IMAGE}, which would shift the layout")
        if not request.images:
            raise SampleError("the sample has no image; PaliGemma cannot be asked without one")
        _require_text(request.prompt)
        encoded = [_read(image) for image in request.images]
        inputs = self._inputs(request, encoded)
        self._require_room(inputs.ids)
        images = image_key(encoded)
        decoding = {"greedy": True, "new": request.max_new_tokens, "stop": self._stop, "pad": self._pad}
        if request.continuations is not None:
            scored = [self._words.ids(text) for text in request.continuations]
            self._require_positions(len(inputs.ids) + max(map(len, scored), default=0))
            decoding = {"likelihood": scored}
        pixels = (rule(request),) if self._paper else ()
        ids = tuple(inputs.ids.tolist())
        key = request_key(self._answerer, ids, images, decoding, *pixels)
        return Prepared(request, inputs, len(ids), images, key, ids)

    def _require_room(self, ids: torch.Tensor) -> None:
        """One bos, no other control token, and no more tokens than the model has positions.

        Published processors cut nothing off (big_vision cuts at text_len), so a question of a megabyte
        would take the whole batch down with it.
        """
        control = torch.isin(ids, torch.tensor(self._control))
        if int(control.sum()) != (2 if self._chat else 1):  # of a chat prompt the end of its turn as well
            raise SampleError("the prompt holds a control token (<bos>, <eos>, <pad>) as text")
        self._require_positions(len(ids))

    def _require_positions(self, count: int) -> None:
        most = self._loaded.model.config.text_config.max_position_embeddings
        if count > most:
            raise SampleError(f"the prompt has {count:,} tokens, the checkpoint {most:,} positions")

    def _inputs(self, request: Request, encoded: Sequence[bytes]) -> Inputs:
        """token_type_ids are always passed on: without them the prefix is causal (transformers 5.10 and
        later; sdpa hides it until rows are padded)."""
        if self._paper:
            opened = _decode(request, encoded, self._paper.decode)
            ids = self._paper.ids(request)
            return Inputs(ids, torch.zeros_like(ids), self._paper.pixels(opened, request))
        pictures = [self._fewer(picture) for picture in _decode(request, encoded, decode)]
        if self._chat:
            ids = self._chat.ids(request)
            return Inputs(ids, self._chat.types(ids), self._chat.pixels(pictures))
        with self._lock:
            batch = self._loaded.processor(
                images=[pictures], text=[_IMAGE * len(pictures) + request.prompt], return_tensors="pt"
            )
        return Inputs(batch["input_ids"][0], batch["token_type_ids"][0], batch["pixel_values"])

    def _fewer(self, picture: Any) -> Any:
        """Reduced by the processor's own filter to --pixels-from, where that was given."""
        if self._reduced is None:
            return picture
        return picture.resize((self._reduced,) * 2, self._loaded.processor.image_processor.resample)

    def generate(self, batch: Sequence[Prepared]) -> Sequence[Reply]:
        """Greedy decoding of one batch, all of it with the largest max_new_tokens among its requests."""
        inputs = self._collate([_inputs(prepared) for prepared in batch])
        limits = [prepared.request.max_new_tokens for prepared in batch]
        watch = FiniteRows(limits, self._stop)
        hook = self._loaded.model.lm_head.register_forward_hook(watch.look)
        try:
            with torch.inference_mode():
                output = self._loaded.model.generate(
                    **inputs,
                    generation_config=self._decoding(max(limits)),
                    logits_processor=LogitsProcessorList([watch]),
                )
        except torch.OutOfMemoryError as error:
            raise CheckpointError(
                f"out of memory with a batch of {len(batch)}; lower --batch-size"
            ) from error
        finally:
            hook.remove()
        if self._opened:
            self._opened.require_unedited(self._name)
        answers = output[:, inputs["input_ids"].shape[1] :].tolist()
        return [
            self._reply(prepared, ids, bool(finite))
            for prepared, ids, finite in zip(batch, answers, watch.finite, strict=True)
        ]

    def score(self, batch: Sequence[Prepared], continuations: Sequence[Sequence[str]]) -> Sequence[Reply]:
        """Log-likelihoods of continuations, teacher-forced; see likelihood.py."""
        inputs = self._collate([_inputs(prepared) for prepared in batch])
        try:
            replies = likelihood.score(self._loaded.model, inputs, batch, continuations, self._words)
        except torch.OutOfMemoryError as error:
            raise CheckpointError(
                f"out of memory with a batch of {len(batch)}; lower --batch-size"
            ) from error
        if self._opened:
            self._opened.require_unedited(self._name)
        return replies

    def peak_memory(self) -> PeakMemory:
        found = placement.peak(self._loaded.gpus)
        return found or process_peak(self._loaded.before)

    def restart_peak(self) -> None:
        """The next `peak_memory` is of what follows, the weights included."""
        for gpu in self._loaded.gpus:
            torch.cuda.reset_peak_memory_stats(gpu)
        if not self._loaded.gpus:
            start_process_peak()

    def close(self) -> None:
        """Let go of the weights; bitsandbytes parameters cannot be moved to the meta device."""
        self._loaded = dataclasses.replace(self._loaded, model=None, processor=None)
        gc.collect()
        if self._loaded.device.type == "cuda":
            torch.cuda.empty_cache()

    def _collate(self, rows: Sequence[Inputs]) -> dict[str, Any]:
        """Left padding; [batch, longest] ids, mask and types, [images, 3, height, width] pixels."""
        longest = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), longest), self._pad)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        types = torch.zeros((len(rows), longest), dtype=torch.long)
        for number, row in enumerate(rows):
            start = longest - len(row.ids)
            ids[number, start:], types[number, start:], mask[number, start:] = row.ids, row.types, 1
        pixels = torch.cat([row.pixels for row in rows]).to(self._loaded.dtype)
        tensors = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types, "pixel_values": pixels}
        return {name: tensor.to(self._loaded.device) for name, tensor in tensors.items()}

    def _decoding(self, max_new_tokens: int) -> GenerationConfig:
        """Greedy, whatever a checkpoint's generation_config.json says of sampling."""
        return GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            eos_token_id=list(self._stop),
            pad_token_id=self._pad,
            use_cache=True,
        )

    def _reply(self, prepared: Prepared, ids: Sequence[int], finite: bool) -> Reply:
        """The answer up to its first stop token; what follows that is padding."""
        end = next((number for number, token in enumerate(ids, 1) if token in self._stop), len(ids))
        kept = ids[: min(end, prepared.request.max_new_tokens)]
        text = self._tokenizer.decode(kept, skip_special_tokens=True)
        return Reply(text=text, token_ids=tuple(kept), n_prompt=prepared.length, finite=finite)


def _inputs(prepared: Prepared) -> Inputs:
    if not isinstance(prepared.inputs, Inputs):
        raise TypeError(f"prepared by another backend: {type(prepared.inputs).__name__}")
    return prepared.inputs


def _read(image: Image) -> bytes:
    try:
        return image.read()
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except Exception as error:  # noqa: BLE001 - a plugin's reader; one sample must not end the run
        reason = told(error)
    raise SampleError(f"cannot read image {image.name}: {reason}")


def _decode(request: Request, encoded: Sequence[bytes], decode: Callable[[bytes], T]) -> list[T]:
    found = []
    for image, data in zip(request.images, encoded, strict=True):
        try:
            found.append(decode(data))
        except SampleError as error:
            raise SampleError(f"image {image.name}: {error}") from error
    return found


def _require_text(prompt: str) -> None:
    try:
        prompt.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can hold
        raise SampleError(f"the prompt is not valid Unicode: {error.reason}") from error


def _stop_ids(model: Any) -> tuple[int, ...]:
    """End-of-sequence ids: of the generation config, else of the config; PaliGemma 2 has two (1, 107)."""
    size = model.config.text_config.vocab_size
    for config in (model.generation_config, model.config, model.config.text_config):
        if (found := getattr(config, "eos_token_id", None)) is not None:
            ids = tuple(found) if isinstance(found, list | tuple) else (found,)
            if not ids or not all(isinstance(token, int) and 0 <= token < size for token in ids):
                raise CheckpointError(f"eos_token_id is {found!r}; expected ids from 0 to {size - 1}")
            return ids
    raise CheckpointError("the checkpoint names no end-of-sequence token (eos_token_id)")


def _pad_id(loaded: Loaded) -> int:
    found = loaded.processor.tokenizer.pad_token_id
    return int(found) if found is not None else _stop_ids(loaded.model)[0]


def _answerer(checkpoint: Checkpoint, loaded: Loaded) -> str:
    """All of the checkpoint, the stack and the machine that can move an answer."""
    known = answering(dataclasses.asdict(checkpoint), dataclasses.asdict(loaded.stack))
    return json_key({"known": known, "machine": machine(loaded.device)})
