"""Greedy answers from PaliGemma and PaliGemma 2."""

from __future__ import annotations

import dataclasses
import gc
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList

from pgbench.backends import process_peak, start_process_peak
from pgbench.backends.identity import answering, request_key
from pgbench.backends.paligemma.checkpoint import Files
from pgbench.backends.paligemma.load import Loaded
from pgbench.backends.paligemma.machine import machine
from pgbench.errors import CheckpointError, SampleError, UsageError, told
from pgbench.keys import image_key, json_key
from pgbench.records import PeakMemory, Stack
from pgbench.sources.images import decode
from pgbench.types import Checkpoint, Image, Prepared, Reply, Request

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
        self._stop = _stop_ids(loaded.model)
        self._pad = _pad_id(loaded)
        self._answerer = _answerer(checkpoint, loaded)

    def describe(self) -> Stack:
        return self._loaded.stack

    def prepare(self, request: Request) -> Prepared:
        """Image tokens, bos, prefix and newline as the published processor lays them out."""
        if _IMAGE in request.prompt:
            raise SampleError(f"the prompt holds the image token {_IMAGE}, which would shift the layout")
        if not request.images:
            raise SampleError("the sample has no image; PaliGemma cannot be asked without one")
        encoded = [_read(image) for image in request.images]
        pictures = [_decode(image, data) for image, data in zip(request.images, encoded, strict=True)]
        batch = self._process(pictures, request.prompt)
        inputs = Inputs(batch["input_ids"][0], batch["token_type_ids"][0], batch["pixel_values"])
        self._require_room(inputs.ids)
        images = image_key(encoded)
        decoding = {"greedy": True, "new": request.max_new_tokens, "stop": self._stop, "pad": self._pad}
        key = request_key(self._answerer, inputs.ids.tolist(), images, decoding)
        return Prepared(request, inputs, len(inputs.ids), images, key)

    def _require_room(self, ids: torch.Tensor) -> None:
        """One bos, no other control token, and no more tokens than the model has positions.

        Published processors cut nothing off (big_vision cuts at text_len), so a question of a megabyte
        would take the whole batch down with it.
        """
        control = torch.isin(ids, torch.tensor([*self._stop, self._pad, self._tokenizer.bos_token_id]))
        if int(control.sum()) != 1:
            raise SampleError("the prompt holds a control token (<bos>, <eos>, <pad>) as text")
        most = self._loaded.model.config.text_config.max_position_embeddings
        if len(ids) > most:
            raise SampleError(f"the prompt has {len(ids):,} tokens, the checkpoint {most:,} positions")

    def _process(self, pictures: Sequence[Any], prompt: str) -> Any:
        """token_type_ids are always returned and always passed on: without them the prefix is causal
        (transformers 5.10 and later; sdpa hides it until rows are padded)."""
        try:
            prompt.encode()
        except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can hold
            raise SampleError(f"the prompt is not valid Unicode: {error.reason}") from error
        with self._lock:
            return self._loaded.processor(
                images=[pictures], text=[_IMAGE * len(pictures) + prompt], return_tensors="pt"
            )

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
        raise UsageError("the paligemma backend has no likelihoods in this version; use --mode generate")

    def peak_memory(self) -> PeakMemory:
        if self._loaded.device.type == "cuda":
            return PeakMemory(torch.cuda.max_memory_allocated(self._loaded.device), "device allocated")
        return process_peak(self._loaded.before)

    def restart_peak(self) -> None:
        """The next `peak_memory` is of what follows, the weights included."""
        if self._loaded.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._loaded.device)
        else:
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


def _decode(image: Image, data: bytes) -> Any:
    try:
        return decode(data)
    except SampleError as error:
        raise SampleError(f"image {image.name}: {error}") from error


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
