"""The records that travel through pgbench, one type per arrow of docs/architecture.md.

Fractions, seconds, bytes and pixels everywhere; `%` exists only in rendering.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from pgbench.checkpoints import AdapterMode as AdapterMode
from pgbench.checkpoints import AdapterOrder as AdapterOrder
from pgbench.checkpoints import Attention as Attention
from pgbench.checkpoints import CacheKind as CacheKind
from pgbench.checkpoints import ChatAttention as ChatAttention
from pgbench.checkpoints import Checkpoint as Checkpoint
from pgbench.checkpoints import Dtype as Dtype
from pgbench.checkpoints import Family as Family
from pgbench.checkpoints import Kind as Kind
from pgbench.checkpoints import ModelRequest as ModelRequest
from pgbench.checkpoints import Profile as Profile
from pgbench.checkpoints import ProtocolName as ProtocolName
from pgbench.checkpoints import Quant as Quant
from pgbench.checkpoints import QuantScope as QuantScope
from pgbench.checkpoints import Style as Style
from pgbench.dataset import DataRequest as DataRequest
from pgbench.dataset import Dataset as Dataset
from pgbench.dataset import Image as Image
from pgbench.dataset import Sample as Sample
from pgbench.dataset import Source as Source
from pgbench.dataset import Target as Target
from pgbench.dataset import cluster_of as cluster_of

Mode: TypeAlias = Literal["generate", "likelihood"]
Direction: TypeAlias = Literal["up", "down"]
Sums: TypeAlias = Mapping[str, float]

# How an encoded file becomes RGB pixels; sources/images.py says why, of the paper protocol decoding.py.
IMAGE_RULE = "exif orientation applied; transparency composited on white; first frame; RGB"
PAPER_RULE = "exif orientation applied; fast integer DCT; transparency dropped; first frame; RGB"


class Continuation(NamedTuple):
    """A text that was put behind the prompt, and what the model thought of it."""

    text: str
    logprobs: tuple[float, ...]  # natural logarithm, of each of its tokens; the last is the end token's


Likelihoods: TypeAlias = tuple[Continuation, ...]  # in the order in which the task gave the texts

# From all scored samples, each with its answer or None where it failed, to a function of their weights.
Weighted: TypeAlias = Callable[[Sequence[tuple[Sample, Any]]], Callable[[Sequence[float]], float | None]]


def wrong(samples: Sequence[Sample]) -> Sums:
    """The sums of one unit that failed, for metrics that are a mean: 0 of 1."""
    return {"sum": 0.0, "n": 1.0, "invalid": 0.0}


def sample_id(sample: Sample) -> str:
    """The default unit: each sample is scored by itself."""
    return sample.id


@dataclass(frozen=True, slots=True)
class Metric:
    """Two pure functions: additive statistics of one unit, and the value of their sum.

    A unit is the smallest set of samples that is scored together: a sample, or an MMVP pair.
    `stat([(sample, raw text), ...])` gets one unit, parses for itself and returns an additive mapping of
    floats with "invalid" (unparseable answers) among them. `reduce(summed)` returns the value as a
    fraction, or None where it is undefined. A metric that is a mean returns "sum" and "n" and reduces
    with `pgbench.metrics.mean`, which is what gives it a clustered t interval instead of a bootstrap.

    A metric of mode likelihood gets `Likelihoods` in the place of the raw text. A value that no additive
    statistics give, as the area under a curve, is computed by `weighted` from all samples together; the
    bootstrap draws weights. `stat` then has the count of invalid answers alone, `reduce` is not asked, and
    `unit_of` is another than the default.
    """

    name: str
    stat: Callable[[Sequence[tuple[Sample, Any]]], Sums]  # Any: raw text, or Likelihoods
    reduce: Callable[[Sums], float | None]
    source: str  # the code or paper that defines it
    unit_of: Callable[[Sample], str] = sample_id
    failed: Callable[[Sequence[Sample]], Sums] = wrong  # the sums of a unit in which a sample failed
    floor: float = 0.0  # what answering without looking gives
    number: bool = False  # the value is no fraction (a distance, say) and is never shown in percent
    direction: Direction | None = "up"
    primary: bool = False
    weighted: Weighted | None = None


@dataclass(frozen=True, slots=True)
class LikelihoodMode:
    """What a task scores in mode likelihood: given texts behind the prompt, instead of what a model prints.

    `right` says which of the continuations are right, by their places.
    """

    continuations: Callable[[Sample, Profile, str], tuple[str, ...]]  # profile, variant; none: not scored
    right: Callable[[Sample], tuple[int, ...]]
    metrics: tuple[Metric, ...]  # their names end in _ll, so that no column mixes them with generated ones


@dataclass(frozen=True, slots=True)
class Pixels:
    """What big_vision's transfer config of a benchmark says; used by the paper protocol."""

    antialias: bool
    text_len: int  # tokens: cap of bos + prefix + separator


@dataclass(frozen=True, slots=True)
class Submission:
    """The file that a benchmark's test server takes."""

    splits: Mapping[str, str]  # split that was run -> split whose ids the file must hold, every one
    suffix: str  # ".json" | ".jsonl"
    pieces: Callable[[Iterable[tuple[Sample, str]]], Iterator[str]]  # the file's text, bit by bit
    server: str  # where it goes, and where the format is written down


# A benchmark's own result file, decoded (a JSON Lines file is a list), to sample id -> raw answer.
# Raises DataError, naming the record.
ResultReader: TypeAlias = Callable[[object, Sequence[Sample]], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Task:
    """One benchmark as a frozen value: its data, its prompts and its judgement; it knows no model."""

    name: str
    version: int  # rises when a prompt, a split or a score can change
    title: str
    sources: Mapping[str, Source]  # hub | files | demo
    splits: Mapping[str, int | None]  # name -> published number of samples (None: not known); first: default
    prompt: Callable[[Sample, Profile, str], str]  # (sample, profile, variant) -> prefix text
    gold: Callable[[Sample], str]  # what a perfect model prints
    metrics: tuple[Metric, ...]
    pixels: Pixels
    max_new_tokens: int
    cite: str  # BibTeX
    licence: str
    answer: Callable[[str, Sample], str] = lambda text, sample: text.strip()  # for display only
    variants: tuple[str, ...] = ("default",)  # named choices that change the question; first: default
    modes: tuple[Mode, ...] = ("generate",)
    aliases: Mapping[str, str] = field(default_factory=dict)  # other names of splits -> their own
    submission: Submission | None = None
    results: ResultReader | None = None  # None: records with an id and an answer, nothing of its own
    draw: Callable[[int], Metric] | None = None  # seed -> the official script's own guesses, as one unit
    likelihood: LikelihoodMode | None = None  # there where `modes` has it


@dataclass(frozen=True, slots=True)
class DataSource:
    """The part of a run's identity that names its data; the content's digest is kept beside the spec."""

    name: str  # hub | files | demo
    id: str
    revision: str | None = None


_LATER = ("metric", "official_seed", "batching")  # what the first records lack: left out of keys while None
_LATER_OF_CHECKPOINT = (  # likewise
    *("chat_attention", "adapter_revision", "adapter_mode", "adapter_order", "attention", "cache"),
)


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One cell, with every choice that can move an answer. Equal key = equal run."""

    task: str
    version: int
    variant: str
    mode: Mode
    split: str
    source: DataSource
    checkpoint: Checkpoint
    limit: int | None = None  # samples at most, cut at clusters
    seed: int = 0  # of the order of clusters
    batch: int = 8  # samples a batch; batch composition can move an answer below float32
    max_new_tokens: int = 32
    images: str = IMAGE_RULE
    metric: str | None = None  # the one metric asked for; None: all of the task
    official_seed: int | None = None  # the official script's own draw is scored as well, with this seed
    batching: str | None = None  # the rule by which batches are made (batching.py); None: as at first

    @property
    def key(self) -> str:
        """sha256 of the spec as sorted JSON: 64 hex digits. What came later counts where it was chosen."""
        chosen = dataclasses.asdict(self)
        point = chosen["checkpoint"]
        later = [(chosen, name) for name in _LATER] + [(point, name) for name in _LATER_OF_CHECKPOINT]
        for part, name in later:
            if part[name] is None:
                del part[name]
        text = json.dumps(chosen, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Request:
    """One sample as a backend is asked it."""

    sample_id: str
    images: tuple[Image, ...]
    prompt: str  # prefix without image tokens, bos or newline
    max_new_tokens: int
    gold: str | None = None  # for the oracle alone; no model ever sees it
    continuations: tuple[str, ...] | None = None  # to be scored behind the prompt; None: it is to be answered
    pixels: Pixels | None = None  # of the task, for the paper protocol
    alone: bool = False  # its cluster goes on in another batch: its images are encoded by themselves, in all


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request as tensors on the CPU."""

    request: Request
    inputs: object  # belongs to the backend
    length: int  # prompt tokens, image tokens included
    image_key: str  # sha256 of the encoded images; "" where the backend opens none
    request_key: str  # sha256 of all that can move this answer
    ids: tuple[int, ...] = ()  # the prompt's tokens, image tokens included, where the backend has any


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `error` says why there is none."""

    text: str
    token_ids: tuple[int, ...] = ()
    n_prompt: int = 0
    batch_id: int = -1  # stamped by the runner, with batch_size and seconds
    batch_size: int = 0
    seconds: float = 0.0  # wall time of the sample's batch
    finite: bool = True  # no logit was nan or inf
    likelihoods: Likelihoods = ()  # of the continuations, in mode likelihood
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Sweep:
    """The axes of a sweep, resolved: every task on every checkpoint."""

    tasks: tuple[tuple[Task, str, str, DataSource], ...]  # task, variant, split, source
    checkpoints: tuple[Checkpoint, ...]
    mode: Mode = "generate"
    limit: int | None = None
    seed: int = 0
    batch: int = 8
