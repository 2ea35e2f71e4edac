"""What a finished run states: its stack, its scores, its cost. One file per record, never edited.

Fractions, seconds and bytes; a record names no host, user, token or absolute path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal, TypeAlias

from pgbench.types import AdapterMode, AdapterOrder, Likelihoods, Mode, Quant, RunSpec

Interval: TypeAlias = Literal["clustered t", "wilson", "bootstrap", "none"]


@dataclass(frozen=True, slots=True)
class ModuleGroup:
    """Modules of one class whose names differ only in layer numbers."""

    pattern: str  # model.language_model.layers.*.mlp.up_proj
    cls: str  # torch.nn.Linear, bitsandbytes.nn.Linear4bit, ...
    count: int
    bytes: int  # of weights, biases and quantization state, as stored


@dataclass(frozen=True, slots=True)
class Quantization:
    """The proof that a checkpoint is quantized as asked, read off the loaded model."""

    level: Quant
    replaced: tuple[ModuleGroup, ...] = ()  # linear layers that are quantized
    skipped: tuple[ModuleGroup, ...] = ()  # linear layers that are not
    compute_dtype: str | None = None
    quant_type: str | None = None  # nf4 | fp4 | int8 | int4 | float8_e4m3fn
    double_quant: bool | None = None
    replaced_bytes: int = 0  # true bytes of the replaced layers, quantization state included
    replaced_bytes_bf16: int = 0  # what the same layers take in bfloat16
    workarounds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What one probe of `pgbench doctor` saw of a stack."""

    probe: str
    passed: bool | None  # None: it does not apply, for the reason that is said
    said: str  # one line
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """All findings on one checkpoint and stack, in the order of the probes."""

    findings: tuple[Finding, ...]
    seconds: float

    @property
    def broken(self) -> Finding | None:
        """The first probe that did not pass."""
        return next((finding for finding in self.findings if finding.passed is False), None)


@dataclass(frozen=True, slots=True)
class Adaptation:
    """The proof that an adapter is in the model: every tensor of its file was found again in a layer."""

    mode: AdapterMode
    order: AdapterOrder | None  # before or after quantization
    tensors: int
    layers: tuple[ModuleGroup, ...]  # that it adapts; bytes: of the adapter alone
    moved: int  # layers whose stored weights the merge changed; 0 where the adapter is attached
    dtype: str = "float32"  # of its weights, of their product and of the sum with a layer's own
    peft: str = ""  # the library's version


@dataclass(frozen=True, slots=True)
class Stack:
    """What computed the answers. It names no host, user, token or path."""

    backend: str
    versions: Mapping[str, str]
    device: str = "none"
    device_name: str = ""
    threads: int = 0
    matmul_precision: str = ""
    attention: Mapping[str, str] = field(default_factory=dict)  # text | vision -> implementation
    quantization: Quantization | None = None
    weight_bytes: int = 0  # all parameters and buffers as stored, shared storage counted once
    numerics: Mapping[str, str] = field(default_factory=dict)  # processor backend, cpu capability, ...
    adapter: Adaptation | None = None
    placement: Mapping[str, str] = field(default_factory=dict)  # module -> where, of --device auto-map
    doctor: Verdict | None = None  # of `pgbench doctor` on this checkpoint and stack, where it was asked
    tried: Mapping[str, str] = field(
        default_factory=dict
    )  # threads, attention, cache -> of what, with figures


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """The most memory that this cell held."""

    bytes: int
    kind: Literal["device allocated", "process resident"]
    before: int = 0  # of these, held before the checkpoint was loaded: the interpreter and its libraries


@dataclass(frozen=True, slots=True)
class Score:
    """One number with all that is needed to believe it."""

    value: float | None  # a fraction unless `number`; None: undefined
    low: float | None  # 95 % interval
    high: float | None
    stderr: float | None
    n: int  # samples scored, failed ones included
    units: int
    clusters: int
    invalid: int  # answers that could not be parsed; they are wrong
    failed: int  # samples without an answer; they are wrong
    interval: Interval = "none"
    number: bool = False  # no fraction: never shown in percent


@dataclass(frozen=True, slots=True)
class Cost:
    """What the numbers cost. Speed is over generated samples, warm-up excluded."""

    load_seconds: float
    warmup_seconds: float
    weight_bytes: int
    peak_memory: PeakMemory
    generated: int
    samples_per_second: float | None
    batch_size: int
    batch_seconds_p50: float | None  # of the wall time of a sample's batch, over samples
    batch_seconds_p95: float | None
    nonfinite: int  # samples with a logit that was nan or inf
    reused: int = 0  # answers taken over from other cells; they are in no speed figure
    shared_load: bool = False  # an earlier cell of the same process loaded: `load_seconds` are of that load
    halved: int = 0  # batches that did not fit into memory and were answered in parts


@dataclass(frozen=True, slots=True)
class Session:
    """What one writer of a run spent beside answering. `shared_load`: an earlier cell had loaded."""

    load_seconds: float
    warmup_seconds: float
    peak_memory: PeakMemory
    shared_load: bool = False

    def after(self, before: Session) -> Session:
        """This session of a writer that had another one before."""
        return replace(self, peak_memory=_higher(self.peak_memory, before.peak_memory))

    def costliest(self, other: Session) -> Session:
        """Of two writers at the same time."""
        return Session(
            max(self.load_seconds, other.load_seconds),
            max(self.warmup_seconds, other.warmup_seconds),
            _higher(self.peak_memory, other.peak_memory),
            self.shared_load and other.shared_load,
        )


def _higher(one: PeakMemory, other: PeakMemory) -> PeakMemory:
    return max(one, other, key=lambda peak: peak.bytes)


@dataclass(frozen=True, slots=True)
class Failure:
    sample_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Data:
    """The data that a run saw."""

    digest: str
    available: int  # samples that the source offers
    published: int | None  # samples that the split has as published
    selected: int  # samples of this run
    unscored: int  # of these, published without references
    demo: bool

    @property
    def full(self) -> bool:
        """All of the published split, and nothing but it."""
        return not self.demo and self.selected == self.available == self.published


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The end of a run: written last, never edited."""

    schema: int
    key: str
    spec: RunSpec
    stack: Stack
    data: Data
    scores: Mapping[str, Score]
    groups: Mapping[str, Mapping[str, Mapping[str, Score]]]  # name -> value -> metric -> score
    cost: Cost
    started: str  # UTC, ISO 8601
    finished: str
    status: Literal["complete", "failures"]
    primary: str  # the metric that stands for the run
    failures: tuple[Failure, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)  # id -> prompt_ids of the first samples


@dataclass(frozen=True, slots=True)
class SampleLine:
    """One line of samples-*.jsonl: all that is known of one answer."""

    id: str
    prompt: str
    request_key: str
    image: str  # sha256 of the encoded image; "" where none was opened
    batch: int
    batch_size: int
    output: str  # raw, as decoded
    tokens: int  # generated, the end-of-sequence token included
    n_prompt: int  # prompt tokens, image tokens included
    seconds: float  # wall time of the batch
    finite: bool
    stats: Mapping[str, Mapping[str, float]]  # metric -> additive statistics, for units of one sample
    target: str | tuple[str, ...] | None  # the references, so that answers can be read and re-scored
    error: str | None = None
    cluster: str = ""  # the sample's unit of dependence; "" in lines of schema 1
    groups: Mapping[str, str] = field(default_factory=dict)  # breakdown name -> value; likewise
    reused: str = ""  # key of the run whose answer this is; "": it was generated here
    prompt_ids: str = ""  # the prompt's tokens, "256*9 2 7" for 256 times 9, then 2 and 7; of the first alone
    likelihoods: Likelihoods = ()  # in mode likelihood: what was scored; `output` is then the likeliest text
    halved: int = 0  # samples asked together, where memory was not enough for the batch; 0: it was enough

    def answer(self, mode: Mode) -> str | Likelihoods | None:
        """What metrics judge; None for a failed sample."""
        if self.error is not None:
            return None
        return self.likelihoods if mode == "likelihood" else self.output


def essence(record: RunRecord, lines: Iterable[SampleLine]) -> dict[str, object]:
    """What "the same record" means: samples, answers, statistics, scores, groups and failures.

    Time, cost and host are left out, and so are request keys, which name the stack, where an answer was first
    given, the first prompts' tokens, which early records lack, and whether memory was enough.
    """
    moving = {"seconds", "request_key", "reused", "prompt_ids", "halved"}
    moving |= {"likelihoods"} if record.spec.mode == "generate" else set()
    names = [field.name for field in fields(SampleLine) if field.name not in moving]
    return {
        "spec": record.spec,
        "data": record.data,
        "scores": record.scores,
        "groups": record.groups,
        "failures": record.failures,
        "samples": [{name: getattr(line, name) for name in names} for line in lines],
    }
