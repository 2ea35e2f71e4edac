"""Greedy answers from PaliGemma and PaliGemma 2."""

from __future__ import annotations

import dataclasses
import functools
import gc
import threading
import traceback
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from transformers import GenerationConfig

from pgbench.backends import process_peak, start_process_peak
from pgbench.backends.identity import answering, request_key, way_key
from pgbench.backends.paligemma import allocator, greedy, likelihood, placement
from pgbench.backends.paligemma.chat import Turns
from pgbench.backends.paligemma.checkpoint import Files
from pgbench.backends.paligemma.features import Features, Inputs, left_padded, sizes
from pgbench.backends.paligemma.going_on import with_kernels
from pgbench.backends.paligemma.greedy import Answer
from pgbench.backends.paligemma.likelihood import Words
from pgbench.backends.paligemma.load import Loaded
from pgbench.backends.paligemma.machine import machine
from pgbench.backends.paligemma.paper import Prefixes, rule
from pgbench.backends.paligemma.pictures import FEW, KEPT, Pictures, Published, spare
from pgbench.backends.paligemma.prompts import IMAGE, Prompts, Tokens
from pgbench.errors import CheckpointError, OutOfMemory, SampleError
from pgbench.keys import images_key, json_key
from pgbench.records import PeakMemory, Stack
from pgbench.sources.images import decode
from pgbench.types import IMAGE_RULE, Checkpoint, Prepared, Reply, Request

T = TypeVar("T")
_ANSWERS = 4096  # texts that are kept: most answers to most benchmarks come again


class PaliGemma:
    """A loaded checkpoint behind the Backend protocol."""

    def __init__(self, checkpoint: Checkpoint, loaded: Loaded, opened: Files | None = None) -> None:
        """`opened`: the files that the checkpoint's revision names."""
        self._opened, self._name, self._checkpoint = opened, checkpoint.id, checkpoint
        self._tokenizer = loaded.processor.tokenizer
        self._lock = threading.Lock()  # a fast tokenizer refuses two callers: "Already borrowed"
        self._tokens = tokens = Tokens(self._tokenizer, self._lock)
        self._reduced = checkpoint.pixels_from
        self._sensitive = checkpoint.dtype != "float32" or checkpoint.quant != "none"
        paper = checkpoint.protocol == "paper"
        self._paper = Prefixes(loaded.processor, tokens, self._reduced) if paper else None
        self._stop = _stop_ids(loaded.model)
        self._pad = _pad_id(loaded)
        chat = checkpoint.chat_attention
        self._chat = Turns(self._name, loaded.processor, tokens, chat) if chat else None
        if self._chat:
            self._stop = tuple(dict.fromkeys((*self._stop, self._chat.end)))
        end = self._chat.end if self._chat else self._tokenizer.eos_token_id
        self._positions = loaded.model.config.text_config.max_position_embeddings  # a config takes its time
        self._control = frozenset((*self._stop, self._pad, self._tokenizer.bos_token_id))
        control = (*self._control, loaded.processor.image_token_id)
        self._words = Words(tokens, end, control)
        plain = not (self._paper or self._chat)
        self._prompts = Prompts(loaded.processor, tokens, self._lock) if plain else None
        self._published = None if self._paper else Published(loaded.processor.image_processor)
        pixels, features = sizes(loaded.model.config, loaded.dtype)
        threads = loaded.stack.threads if loaded.device.type == "cpu" else 0
        self._pictures = Pictures(max(KEPT, FEW * pixels), spare(threads))
        self._features = Features(loaded.model, max(KEPT, FEW * features))
        self._text = functools.lru_cache(_ANSWERS)(self._decoded)
        self._way = functools.lru_cache(self._greedy)  # few differ within a run
        self._loaded = dataclasses.replace(loaded, stack=self._said(loaded))
        self._answerer = _answerer(checkpoint, self._loaded)

    def describe(self) -> Stack:
        return self._loaded.stack

    def go_on_with(self, stack: Stack) -> None:
        """Use the kernels of another session of the run, where nothing but speed chose these."""
        loaded = with_kernels(self._loaded, stack)
        self._loaded = dataclasses.replace(loaded, stack=self._said(loaded))
        self._answerer = _answerer(self._checkpoint, self._loaded)

    def prepare(self, request: Request) -> Prepared:
        """Image tokens, bos, prefix and newline as the protocol lays them out."""
        if IMAGE in request.prompt:
            raise SampleError(f"the prompt holds the image token {IMAGE}, which would shift the layout")
        if not request.images:
            raise SampleError("the sample has no image; PaliGemma cannot be asked without one")
        _require_text(request.prompt)
        inputs, ids = self._inputs(request)
        self._require_room(ids, len(request.images))
        images = images_key([picture.key for picture in inputs.pictures])
        named = rule(request) if self._paper else IMAGE_RULE
        alone = request.alone and self._sensitive  # the last bits of features depend on what is beside them
        if request.continuations is None:
            way = self._way(self._answerer, request.max_new_tokens, alone, named)
        else:
            scored = [self._words.ids(text) for text in request.continuations]
            self._require_positions(len(ids) + max(map(len, scored), default=0))
            way = way_key(self._answerer, {"likelihood": scored, "alone": alone}, named)
        key = request_key(way, ids, images)
        return Prepared(request, inputs, len(ids), images, key, ids)

    def _greedy(self, answerer: str, new: int, alone: bool, named: str) -> str:
        decoding = {"greedy": True, "new": new, "stop": self._stop, "pad": self._pad, "alone": alone}
        return way_key(answerer, decoding, named)

    def _require_room(self, ids: Sequence[int], images: int) -> None:
        """One bos, no other control token, and no more tokens than the model has positions.

        Published processors cut nothing off (big_vision cuts at text_len), so a question of a megabyte
        would take the whole batch down with it.
        """
        behind = ids[images * self._loaded.processor.image_seq_length :]
        control = sum(map(self._control.__contains__, behind))
        if control != (2 if self._chat else 1):  # of a chat prompt the end of its turn as well
            raise SampleError("the prompt holds a control token (<bos>, <eos>, <pad>) as text")
        self._require_positions(len(ids))

    def _require_positions(self, count: int) -> None:
        if count > (most := self._positions):
            raise SampleError(f"the prompt has {count:,} tokens, the checkpoint {most:,} positions")

    def _inputs(self, request: Request) -> tuple[Inputs, tuple[int, ...]]:
        """token_type_ids are always passed on: without them the prefix is causal (transformers 5.10 and
        later; sdpa hides it until rows are padded)."""

        def pixels(data: bytes) -> torch.Tensor:
            if self._paper:
                return self._paper.pixels([self._paper.decode(data)], request)[0]
            return self._published.pixels(self._fewer(decode(data)))  # type: ignore[union-attr]

        named = rule(request) if self._paper else ""
        pictures = tuple(self._pictures.of(image, pixels, named) for image in request.images)
        if own := self._paper or self._chat:
            ids = own.ids(request)
            types = self._chat.types(ids) if self._chat else torch.zeros_like(ids)
            return Inputs(ids, types, pictures, request.alone), tuple(ids.tolist())
        found = self._prompts.of(request.prompt, len(pictures))  # type: ignore[union-attr]
        return Inputs(found.ids, found.types, pictures, request.alone), found.tokens

    def _fewer(self, picture: Any) -> Any:
        """Reduced by the processor's own filter to --pixels-from, where that was given."""
        if self._reduced is None:
            return picture
        return picture.resize((self._reduced,) * 2, self._loaded.processor.image_processor.resample)

    def generate(self, batch: Sequence[Prepared]) -> Sequence[Reply]:
        """Greedy decoding of one batch. Raises OutOfMemory where it does not fit."""
        limits = [prepared.request.max_new_tokens for prepared in batch]

        def answered() -> list[Answer]:
            inputs = self._collate([_inputs(prepared) for prepared in batch])
            if self._loaded.cache == "dynamic":
                return greedy.decode(self._loaded.model, inputs, limits, self._stop, cut=self._loaded.cut)
            config = self._decoding(max(limits))
            return greedy.generate(self._loaded.model, inputs, limits, self._stop, config)

        answers = self._fitting(len(batch), answered)
        pairs = zip(batch, answers, strict=True)
        return [self._reply(prepared, answer.ids, answer.finite) for prepared, answer in pairs]

    def score(self, batch: Sequence[Prepared], continuations: Sequence[Sequence[str]]) -> Sequence[Reply]:
        """Log-likelihoods of continuations, teacher-forced; see likelihood.py. Raises OutOfMemory."""

        def scored() -> list[Reply]:
            inputs = self._collate([_inputs(prepared) for prepared in batch])
            return likelihood.score(
                self._loaded.model, inputs, batch, continuations, self._words, cut=self._loaded.cut
            )

        return self._fitting(len(batch), scored)

    def _fitting(self, rows: int, work: Callable[[], list[T]]) -> list[T]:
        """What `work` gives. Raises OutOfMemory where that does not fit, with nothing of the batch left."""
        found: list[T] | None = None
        try:
            found = work()
        except (MemoryError, RuntimeError) as error:
            if not greedy.no_room(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold the tensors of the batch
        if found is None:  # here, where the error is no longer held
            self._features.forget()
            if self._loaded.device.type == "cuda":
                torch.cuda.empty_cache()
            raise OutOfMemory(f"out of memory with a batch of {rows}; lower --batch-size")
        if self._opened:
            self._opened.require_unedited(self._name)
        return found

    def _said(self, loaded: Loaded) -> Stack:
        """The stack with what is done here in the place of the processor, of `generate` and of pixels."""
        ways = {
            "tokens": self._tokenized_by(),
            "pixels": "Pillow, table" if self._published and self._published.direct else "",
            "vision": "once per picture" if self._features.reused else "pixels of every row",
            "decoding": "rows leave when they end" if loaded.cache == "dynamic" else "transformers' generate",
        }
        said = {name: how for name, how in ways.items() if how}
        return dataclasses.replace(loaded.stack, numerics={**loaded.stack.numerics, **said})

    def _tokenized_by(self) -> str:
        if self._prompts and not self._prompts.direct:
            return "by the processor"
        return "by the tokenizer's library" if self._tokens.direct else "by the tokenizer"

    def peak_memory(self) -> PeakMemory:
        found = placement.peak(self._loaded.gpus)
        return found or process_peak(self._loaded.before)

    def restart_peak(self) -> None:
        """The next `peak_memory` is of what follows, the weights included."""
        for gpu in self._loaded.gpus:
            torch.cuda.reset_peak_memory_stats(gpu)
        if not self._loaded.gpus:
            allocator.give_back()
            start_process_peak()

    def close(self) -> None:
        """Let go of the weights; bitsandbytes parameters cannot be moved to the meta device."""
        still = weakref.ref(self._loaded.model) if self._loaded.model is not None else lambda: None
        self._loaded = dataclasses.replace(self._loaded, model=None, processor=None)
        self._features.forget()
        if still() is not None:  # in a cycle; to look for those takes a quarter of a second
            gc.collect()
        if self._loaded.device.type == "cuda":
            torch.cuda.empty_cache()
        else:
            allocator.give_back()

    def _collate(self, rows: Sequence[Inputs]) -> dict[str, Any]:
        """Left padding; [batch, longest] ids, mask and types, and what stands for the pictures."""
        model, device = self._loaded.model, self._loaded.device
        found = {name: tensor.to(device) for name, tensor in left_padded(rows, self._pad).items()}
        return {**found, **self._features.inputs(model, rows, device, self._loaded.dtype)}

    def _decoding(self, max_new_tokens: int) -> GenerationConfig:
        """Greedy, whatever a checkpoint's generation_config.json says of sampling."""
        return GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            eos_token_id=list(self._stop),
            pad_token_id=self._pad,
            use_cache=True,
            cache_implementation="static" if self._loaded.cache == "static" else None,
            disable_compile=self._loaded.device.type != "cuda",
        )

    def _reply(self, prepared: Prepared, ids: Sequence[int], finite: bool) -> Reply:
        """The answer up to its first stop token; what follows that is padding."""
        end = next((number for number, token in enumerate(ids, 1) if token in self._stop), len(ids))
        kept = ids[: min(end, prepared.request.max_new_tokens)]
        return Reply(self._text(tuple(kept)), tuple(kept), prepared.length, finite=finite)

    def _decoded(self, ids: tuple[int, ...]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


def _inputs(prepared: Prepared) -> Inputs:
    if not isinstance(prepared.inputs, Inputs):
        raise TypeError(f"prepared by another backend: {type(prepared.inputs).__name__}")
    return prepared.inputs


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
