"""The records that travel through pgbench, one type per arrow of docs/architecture.md.

Fractions, seconds, bytes and pixels everywhere; `%` exists only in rendering.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["pt", "mix", "ft", "chat"]
Family: TypeAlias = Literal["paligemma", "paligemma2"]
Style: TypeAlias = Literal["paligemma", "official"]
Quant: TypeAlias = Literal["none", "8bit", "4bit", "fp4"]
Dtype: TypeAlias = Literal["float32", "bfloat16", "float16"]
Mode: TypeAlias = Literal["generate", "likelihood"]
Direction: TypeAlias = Literal["up", "down"]
Target: TypeAlias = str | tuple[str, ...] | None
Sums: TypeAlias = Mapping[str, float]

# How an encoded file becomes the RGB pixels that a processor sees; see sources/images.py for why.
IMAGE_RULE = "exif orientation applied; transparency composited on white; first frame; RGB"


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is opened late."""

    name: str  # for messages: a file name or row, never an absolute path
    read: Callable[[], bytes]  # the encoded file (JPEG, PNG, ...); raises OSError


@dataclass(frozen=True, slots=True)
class Sample:
    """One question with its images and references, as the benchmark published it."""

    id: str  # stable across runs and machines: the join key of paired tests
    images: tuple[Image, ...]  # one token block each, in marker order
    question: str
    target: Target  # the references; None: published without, run but not scored
    options: tuple[str, ...] = ()
    context: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)  # what only the task itself reads
    groups: Mapping[str, str] = field(default_factory=dict)  # breakdown name -> value
    cluster: str = ""  # the coarsest unit of dependence (image, pair); "": the sample itself


def cluster_of(sample: Sample) -> str:
    """The name of a sample's cluster; a sample without one is its own."""
    return sample.cluster or sample.id


@dataclass(frozen=True, slots=True)
class DataRequest:
    """Where a source shall read: what --split, --data, --data-id, --data-revision and --variant said."""

    split: str
    path: str | None = None
    id: str | None = None
    revision: str | None = None
    variant: str = ""  # for variants that change which images or labels a sample has; "": the default


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a source found. `samples` may fetch its items late; iteration order is the published order."""

    samples: Sequence[Sample]
    digest: str  # sha256 over ids, questions, references and image names, in order
    id: str  # what was read: a hub id, a file name, "demo"; never an absolute path
    revision: str | None = None  # the hub commit, where there is one
    missing: tuple[str, ...] = ()  # ids of samples whose image file is not there
    demo: bool = False  # drawn by pgbench, not the published benchmark


Source: TypeAlias = Callable[[DataRequest], Dataset]  # raises DataError, HubError


@dataclass(frozen=True, slots=True)
class Profile:
    """What kind of checkpoint is asked, which decides how it is asked."""

    kind: Kind
    family: Family
    tuned_on: str | None = None  # the task of an ft checkpoint
    style: Style = "paligemma"  # official: the prompt of the benchmark's authors


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
    """

    name: str
    stat: Callable[[Sequence[tuple[Sample, str]]], Sums]
    reduce: Callable[[Sums], float | None]
    source: str  # the code or paper that defines it
    unit_of: Callable[[Sample], str] = sample_id
    failed: Callable[[Sequence[Sample]], Sums] = wrong  # the sums of a unit in which a sample failed
    floor: float = 0.0  # what answering without looking gives
    number: bool = False  # the value is no fraction (a distance, say) and is never shown in percent
    direction: Direction | None = "up"
    primary: bool = False


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


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Which weights, and everything about them that can move an answer."""

    id: str  # a hub id, a folder's name, a shipped checkpoint's name, or the backend's own name
    revision: str | None  # hub commit, or sha256 of a folder's content
    profile: Profile
    resolution: int  # px, square; 0 where the backend sees no pixels
    dtype: Dtype = "bfloat16"
    quant: Quant = "none"
    quant_scope: Literal["all", "language"] = "all"
    protocol: Literal["hf", "paper"] = "hf"
    pixels_from: int | None = None
    adapter: str | None = None
    backend: str = "paligemma"
    demo: bool = False  # a checkpoint shipped with pgbench: its numbers say nothing about PaliGemma


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What the flags said about the model, before anything was looked up."""

    model: str | None = None
    revision: str | None = None
    dtype: Dtype = "bfloat16"
    quant: Quant = "none"
    style: Style = "paligemma"
    device: str = "auto"
    threads: int | None = None
    predictions: str | None = None  # for the replay backend


@dataclass(frozen=True, slots=True)
class DataSource:
    """The part of a run's identity that names its data; the content's digest is kept beside the spec."""

    name: str  # hub | files | demo
    id: str
    revision: str | None = None


_LATER = ("metric", "official_seed")  # fields that the first records lack: left out of keys while None


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

    @property
    def key(self) -> str:
        """sha256 of the spec as sorted JSON: 64 hex digits. What came later counts where it was chosen."""
        chosen = dataclasses.asdict(self)
        for name in _LATER:
            if chosen[name] is None:
                del chosen[name]
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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request as tensors on the CPU."""

    request: Request
    inputs: object  # belongs to the backend
    length: int  # prompt tokens, image tokens included
    image_key: str  # sha256 of the encoded images; "" where the backend opens none
    request_key: str  # sha256 of all that can move this answer


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
    logprobs: tuple[float, ...] | None = None
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
