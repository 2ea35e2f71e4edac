"""Measuring one level: load, the device's matmul rate, then every batch size in turn."""

from __future__ import annotations

import gc
import io
import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pgbench.backends import Engine
from pgbench.backends.flops import flops
from pgbench.backends.size import ModelSize
from pgbench.bench.figures import Bench, Refused, Row, Work, shape_of
from pgbench.errors import CheckpointError, OutOfMemory, SampleError, UsageError
from pgbench.sweeping.memory import Load, estimate
from pgbench.types import Checkpoint, Image, Pixels, Prepared, Request

if TYPE_CHECKING:
    from pgbench.backends.paligemma.generate import PaliGemma
    from pgbench.backends.paligemma.instruments import Instruments

_PICTURE, _COARSE = (640, 480), (16, 12)  # a photograph's size; what is drawn and enlarged
_PREPARED = 8  # samples whose preparation is timed
_AROUND = 2  # bos and newline
_TRIES = 6  # at a prompt of so many tokens
_PIXELS = Pixels(antialias=True, text_len=4096)  # of the paper protocol; nothing is cut off
Watch = Callable[[str], None]  # is told what is measured


def _silent(said: str) -> None:
    """Nobody watches."""


def measure(
    engine: Engine, work: Work, batches: Sequence[int], *, name: str | None = None, watch: Watch = _silent
) -> Bench | Refused:
    """All figures of one level. `name`: of the widths, where weights are random.

    Raises CheckpointError, UsageError. A batch that does not fit is a row that says so, and no larger one is
    tried; a level that does not fit is a Refused.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    if (size := engine.size()) is None:
        raise CheckpointError(f"{engine.checkpoint.id}: its config.json has widths that cannot be")
    engine.imports()
    _warm(engine.checkpoint)
    watch("load")
    before = time.perf_counter()
    try:
        backend = _loaded(engine)
    except CheckpointError as error:
        if not _no_room(error):
            raise
        return Refused(engine.checkpoint, str(error), name)
    seconds = time.perf_counter() - before
    try:
        return _bench(engine.checkpoint, backend, size, work, batches, seconds, started, name, watch)
    except OutOfMemory as error:  # what is beside the rows: the device is as good as full
        return Refused(engine.checkpoint, str(error), name)
    finally:
        backend.close()


def _warm(point: Checkpoint) -> None:
    """What the first load of a process takes beside loading."""
    from pgbench.backends.paligemma.instruments import warm

    warm(point.quant)


def _loaded(engine: Engine) -> PaliGemma:
    from pgbench.backends.paligemma.generate import PaliGemma

    backend = engine.load()
    if not isinstance(backend, PaliGemma):
        raise UsageError(f"pgbench bench measures a model; {type(backend).__name__} has none")
    return backend


def _no_room(error: CheckpointError) -> bool:
    """Whether memory was what lacked. Of torch's own error the name is enough: nothing here imports torch."""
    return isinstance(error, OutOfMemory) or type(error.__cause__).__name__ in (
        "OutOfMemoryError",
        "MemoryError",
    )


def _bench(
    point: Checkpoint,
    backend: PaliGemma,
    size: ModelSize,
    work: Work,
    batches: Sequence[int],
    load_seconds: float,
    started: str,
    name: str | None,
    watch: Watch,
) -> Bench:
    from pgbench.backends.paligemma.instruments import Instruments

    instruments = Instruments(backend)
    watch("matmul")
    rate, of = instruments.matmul_rate()
    asked = Questions(backend, work.text, size.image_tokens)
    prompt = asked.prompt_tokens
    stack = backend.describe()
    rows = tuple(_rows(backend, instruments, asked, work, batches, watch, _room(point, size, stack.device)))
    # once more: what else runs on the machine can only slow a product down, and flatter a share
    rate, of = max((rate, of), instruments.matmul_rate())
    return Bench(
        checkpoint=point,
        stack=stack,
        work=work,
        shape=shape_of(size),
        flops=flops(
            size,
            images=work.images,
            text=prompt - work.images * size.image_tokens,
            answer=work.new,
            cut="prefill" in stack.numerics,
        ),
        prompt=prompt,
        load_seconds=load_seconds,
        prepare=asked.prepare_seconds(),
        matmul=rate,
        matmul_of=of,
        rows=rows,
        started=started,
        random=name,
    )


class Questions:
    """Made-up pictures, no two of them alike, before one prompt of a given length."""

    def __init__(self, backend: PaliGemma, text: int, image_tokens: int) -> None:
        """`text`: tokens wanted beside the picture's, of bos and newline two."""
        self._backend, self._count = backend, 0
        words = float(text)
        for _ in range(_TRIES):  # how many tokens a word is, the tokenizer says
            self._prompt = " ".join(["a"] * max(1, round(words)))
            self.prompt_tokens = self._one(1).length
            found = self.prompt_tokens - image_tokens
            if found == text or words <= 1:
                break
            words = max(1.0, words * (text - _AROUND) / max(1, found - _AROUND))

    def batch(self, rows: int, new: int) -> list[Prepared]:
        """So many questions, each with a picture that nobody has seen before."""
        return [self._one(new) for _ in range(rows)]

    def prepare_seconds(self) -> tuple[float, ...]:
        """Each of a few, in this thread."""
        asked = [self._request(1) for _ in range(_PREPARED)]
        found = []
        for request in asked:
            before = time.perf_counter()
            self._backend.prepare(request)
            found.append(time.perf_counter() - before)
        return tuple(found)

    def _one(self, new: int) -> Prepared:
        try:
            return self._backend.prepare(self._request(new))
        except SampleError as error:
            raise UsageError(f"no prompt of this length: {error}; lower --text-tokens") from error

    def _request(self, new: int) -> Request:
        self._count += 1
        picture = _picture(self._count)
        image = Image(f"{self._count}.jpg", lambda: picture)
        return Request(str(self._count), (image,), self._prompt, new, pixels=_PIXELS)


def _picture(seed: int) -> bytes:
    """A JPEG of a photograph's size: coarse noise, enlarged, so that it is of a photograph's length too."""
    from PIL import Image as Pillow

    coarse = Pillow.frombytes("RGB", _COARSE, random.Random(seed).randbytes(3 * _COARSE[0] * _COARSE[1]))
    file = io.BytesIO()
    coarse.resize(_PICTURE, Pillow.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def _rows(
    backend: PaliGemma,
    instruments: Instruments,
    asked: Questions,
    work: Work,
    batches: Sequence[int],
    watch: Watch,
    room: Callable[[int, Work], str],
) -> Iterator[Row]:
    full = ""
    for batch in batches:
        watch(f"batch {batch}")
        if said := full or room(batch, work):
            yield Row(batch, said=said)
            full = full or f"not tried: {batch} would not fit"
            continue
        backend.restart_peak()
        try:
            with instruments.unending():
                prefill, decode = _repeats(backend, asked, batch, work)
        except CheckpointError as error:
            if not _no_room(error):
                raise
            yield Row(batch, said="out of memory")
            full = f"not tried: {batch} did not fit"
            gc.collect()
            continue
        yield Row(batch, prefill, decode, backend.peak_memory())


def _repeats(
    backend: PaliGemma, asked: Questions, batch: int, work: Work
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds of each repeat; the two batches of a repeat take turns, so that a slow moment meets both."""
    _seconds(backend, asked.batch(batch, work.new), work.new)  # kernels are chosen, caches made
    prefill, decode = [], []
    for _ in range(work.repeats):
        first = _seconds(backend, asked.batch(batch, 1), 1)
        prefill.append(first)
        if work.new > 1:
            decode.append(_seconds(backend, asked.batch(batch, work.new), work.new) - first)
    return tuple(prefill), tuple(decode)


def _seconds(backend: PaliGemma, prepared: Sequence[Prepared], new: int) -> float:
    before = time.perf_counter()
    replies = backend.generate(prepared)
    spent = time.perf_counter() - before
    if short := [len(reply.token_ids) for reply in replies if len(reply.token_ids) != new]:
        raise CheckpointError(f"an answer ended after {short[0]} of {new} tokens; please report it")
    return spent


def _room(point: Checkpoint, size: ModelSize, device: str) -> Callable[[int, Work], str]:
    """What to say of a batch that this machine surely has no memory for: on a CPU nothing raises, the kernel
    ends the process."""

    def said(batch: int, work: Work) -> str:
        free = available() if device == "cpu" else None
        load = Load(batch, work.images, work.text, work.new)
        found = estimate(size, point.quant, point.dtype, load, point.quant_scope)
        need = found.cache + found.activations
        if free is None or need <= free:
            return ""
        return f"not tried: about {need / 2**30:.1f} GiB more needed, {free / 2**30:.1f} GiB free"

    return said


def available(source: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes that new work can have; None where the system does not say."""
    lines = source.read_text().splitlines() if source.is_file() else []
    found = next((line for line in lines if line.startswith("MemAvailable:")), None)
    return int(found.split()[1]) * 1024 if found else None
