"""The two sides of engine.py: a run by pgbench, and the loop of the model card; what is inside a model."""

from __future__ import annotations

import functools
import gc
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from engine_cells import Asked, card_of, cell_of

from pgbench.records import RunRecord
from pgbench.runner import run
from pgbench.samples import read_lines
from pgbench.types import Prepared, Reply, Sample


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall seconds and CPU seconds."""

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: Clock) -> Clock:
        return Clock(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Clock) -> Clock:
        return Clock(self.wall - other.wall, self.cpu - other.cpu)


def now() -> Clock:
    """CPU seconds of all threads."""
    return Clock(time.perf_counter(), time.process_time())


class Inside:
    """The time that passes in calls of a model from outside; CPU seconds are of the calling thread."""

    def __init__(self, model: Any) -> None:
        self.spent, self._busy = Clock(), False
        for name in ("generate", "get_image_features", "forward"):
            self._watch(model, name)
        inner = model.model
        for part in (inner, inner.language_model, inner.vision_tower, inner.multi_modal_projector):
            self._watch(part, "forward")  # in case it is called by itself
        self._watch(model.lm_head, "forward")

    def _watch(self, part: Any, name: str) -> None:
        call = getattr(part, name)

        @functools.wraps(call)  # generate looks at the signature of forward
        def timed(*given: Any, **named: Any) -> Any:
            if self._busy:
                return call(*given, **named)
            self._busy, before = True, Clock(time.perf_counter(), time.thread_time())
            try:
                return call(*given, **named)
            finally:
                self.spent += Clock(time.perf_counter(), time.thread_time()) - before
                self._busy = False

        setattr(part, name, timed)


class Watched:
    """A backend whose first call, which warms up, and whose end are timed apart."""

    def __init__(self, backend: Any) -> None:
        self._backend, self._inside = backend, Inside(backend._loaded.model)  # noqa: SLF001
        self.apart, self._warming_inside, self._warm = Clock(), Clock(), False

    @property
    def inside(self) -> Clock:
        return self._inside.spent - self._warming_inside

    def generate(self, batch: Sequence[Prepared]) -> Sequence[Reply]:
        if self._warm:
            return cast(Sequence[Reply], self._backend.generate(batch))
        before, self._warm = now(), True
        try:
            return cast(Sequence[Reply], self._backend.generate(batch))
        finally:
            self.apart, self._warming_inside = now() - before, self._inside.spent

    def close(self) -> None:
        before = now()
        self._backend.close()
        self.apart += now() - before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


@dataclass(frozen=True, slots=True)
class Pass:
    """One way through the samples."""

    spent: Clock
    inside: Clock
    answers: Mapping[str, str]  # sample id -> text
    record: RunRecord


def by_pgbench(asked: Asked, folder: Path, samples: Sequence[Sample], out: Path) -> Pass:
    """A whole run, from its plan to its record, without loading and warming up."""
    cell = cell_of(asked, folder, samples)
    loading: list[Clock] = []
    backends: list[Watched] = []

    def load() -> Any:
        before = now()
        backends.append(Watched(cell.engine.load()))
        loading.append(now() - before)
        return backends[-1]

    gc.collect()
    before = now()
    outcome = run(replace(cell, engine=replace(cell.engine, load=load)), out)
    spent = now() - before
    (backend,) = backends
    answers = {line.id: line.output for line in read_lines(outcome.folder)}
    return Pass(spent - loading[0] - backend.apart, backend.inside, answers, outcome.record)


class Card:
    """The loop of the model card, which goes on where it stopped."""

    def __init__(self, asked: Asked, folder: Path, samples: Sequence[Sample]) -> None:
        import torch
        from PIL import Image

        torch.set_num_threads(asked.threads)
        self._torch, self._asked = torch, asked
        self._model, self._processor = card_of(asked, folder)
        self._samples = samples
        self._pictures = [
            Image.open(io.BytesIO(sample.images[0].read())).convert("RGB") for sample in samples
        ]
        self.spent, self.answers = Clock(), dict[str, str]()
        self._answer(0)

    def go_on(self, count: int) -> Clock:
        """The next so many samples."""
        start = len(self.answers)
        gc.collect()
        before = now()
        found = {
            self._samples[n].id: self._answer(n) for n in range(start, min(start + count, len(self._samples)))
        }
        spent = now() - before
        self.answers |= found
        self.spent += spent
        return spent

    def _answer(self, number: int) -> str:
        torch, prompt = self._torch, f"<image>answer en {self._samples[number].question}"
        inputs = self._processor(text=prompt, images=self._pictures[number], return_tensors="pt")
        inputs = inputs.to(self._model.dtype).to(self._model.device)
        inputs.pop("labels", None)  # else every step computes a loss
        length = inputs["input_ids"].shape[-1]
        with torch.inference_mode():
            found = self._model.generate(**inputs, max_new_tokens=self._asked.max_new_tokens, do_sample=False)
        return str(self._processor.decode(found[0][length:], skip_special_tokens=True))
