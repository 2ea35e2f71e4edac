"""The paragraphs for a paper's appendix, made of what the records say and nothing else. Pure.

What all records share is said once; what differs is said with the tasks, checkpoints or levels it differs by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pgbench.records import RunRecord
from pgbench.report import axes, bibtex
from pgbench.report.methods_levels import quantization
from pgbench.report.methods_scores import doubts, failures, intervals, metrics
from pgbench.report.methods_subjects import differing, joined
from pgbench.types import Checkpoint, Task

_KINDS = {"pt": "pre-trained", "mix": "mix", "ft": "fine-tuned", "chat": "chat"}
_DIGITS = 12  # of revisions and digests, which is enough to tell them apart


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence without its full stop, and the BibTeX keys that stand behind it."""

    text: str
    cites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Topic:
    title: str
    sentences: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Methods:
    """`bibtex`: the entries of all that is cited. `command`: what made the report, "" where not known."""

    topics: tuple[Topic, ...]
    bibtex: tuple[str, ...]
    command: str = ""


def of(records: Sequence[RunRecord], tasks: Mapping[str, Task], command: str = "") -> Methods:
    """What was run and how. `tasks`: by name, for titles, metrics' sources and BibTeX; where a task is not
    at hand, or of another version than the record's, the text says so."""
    told: tuple[tuple[str, Iterable[Said]], ...] = (
        ("Models", _models(records)),
        ("Number formats", (Said(text, cites) for text, cites in quantization(records))),
        ("Prompts and decoding", _asking(records)),
        ("Tasks and data", _tasks(records, tasks)),
        ("Metrics", (Said(text) for text in metrics(records, tasks))),
        ("Intervals", (Said(text) for text in intervals(records))),
        ("Failures and limits", (Said(text) for text in (*failures(records), *doubts(records)))),
        ("Hardware and software", _stack(records)),
    )
    topics = [Topic(title, tuple(sentences)) for title, sentences in told]
    return Methods(
        tuple(topic for topic in topics if topic.sentences), bibtex.entries(records, tasks), command
    )


def _models(records: Sequence[RunRecord]) -> Iterator[Said]:
    counts = f"{len(records):,} {'cell was' if len(records) == 1 else 'cells were'} evaluated"
    yield Said(f"{counts} with {joined(differing(records, _harness))}" if records else counts)
    points: dict[str, list[RunRecord]] = {}
    for record in sorted(records, key=_place):
        points.setdefault(_checkpoint(record), []).append(record)
    for text, found in points.items():
        yield Said(text, bibtex.keys(one for one in bibtex.of_model(found[0]) if one not in _levels()))


def _place(record: RunRecord) -> tuple[object, ...]:
    """Where a checkpoint's row stands in a table."""
    point = record.spec.checkpoint
    return axes.natural(axes.model_name(point)), point.resolution


def _levels() -> tuple[str, ...]:
    return tuple(bibtex.OF_LEVEL.values())


def _harness(record: RunRecord) -> str:
    version = record.stack.versions.get("pgbench")
    return f"pgbench {version}" if version else "pgbench of a version that was not recorded"


def _checkpoint(record: RunRecord) -> str:
    point = record.spec.checkpoint
    if point.backend in ("oracle", "replay"):
        return f"No model: answers of the {point.backend} backend ({point.id})"
    kind = _KINDS[point.profile.kind]
    tuned = f" on {point.profile.tuned_on}" if point.profile.tuned_on else ""
    parts = [
        f"revision {point.revision[:_DIGITS]}" if point.revision else "revision not recorded",
        f"{point.profile.family}, {kind}{tuned}",
        *([f"{point.resolution} px"] if point.resolution else []),
        *([f"adapter {axes.adapter_name(point)}{_version(point)}"] if point.adapter else []),
        *(["a tiny checkpoint trained on drawings, for demonstration"] if point.demo else []),
        *([f"answered by the backend {point.backend}"] if point.backend != "paligemma" else []),
    ]
    return f"Checkpoint {point.id} ({'; '.join(parts)})"


def _version(point: Checkpoint) -> str:
    return f", revision {point.adapter_revision[:_DIGITS]}" if point.adapter_revision else ""


def _asking(records: Sequence[RunRecord]) -> Iterator[Said]:
    yield from _facts(records, (_style, _decoding, _batch, _pixels, _attention))


def _facts(records: Sequence[RunRecord], facts: Iterable[Callable[[RunRecord], str]]) -> Iterator[Said]:
    """A sentence for each fact that the records tell."""
    for fact in facts:
        text = joined(differing(records, fact))
        if text:
            yield Said(f"{text[0].upper()}{text[1:]}")


def _style(record: RunRecord) -> str:
    official = record.spec.checkpoint.profile.style == "official"
    return f"prompts in the wording of {'the benchmark authors' if official else 'PaliGemma'}"


def _decoding(record: RunRecord) -> str:
    spec = record.spec
    if spec.checkpoint.backend != "paligemma":
        return f"decoding as the backend {spec.checkpoint.backend} does it"
    if spec.mode == "likelihood":
        return "answers chosen by likelihood"
    return f"greedy decoding of at most {spec.max_new_tokens} new tokens"


def _batch(record: RunRecord) -> str:
    return f"batches of {record.spec.batch}"


def _pixels(record: RunRecord) -> str:
    point = record.spec.checkpoint
    if not point.resolution:
        return ""
    how = "published image processor" if point.protocol == "hf" else "image preprocessing of the papers"
    size = f", pictures first brought to {point.pixels_from} px" if point.pixels_from else ""
    return f"protocol {point.protocol} ({how}{size}); images: {record.spec.images}"


def _attention(record: RunRecord) -> str:
    parts = [f"{kind} in the {part} model" for part, kind in sorted(record.stack.attention.items())]
    return f"attention: {', '.join(parts)}" if parts else ""


def _tasks(records: Sequence[RunRecord], tasks: Mapping[str, Task]) -> Iterator[Said]:
    groups: dict[tuple[str, int, str, str, str], list[RunRecord]] = {}
    for record in records:
        spec = record.spec
        key = (spec.task, spec.version, spec.split, spec.variant, spec.mode)
        groups.setdefault(key, []).append(record)
    for (name, version, split, variant, mode), found in groups.items():
        task = tasks.get(name)
        title = f" ({task.title})" if task else ""
        usual = task.variants[0] if task else "default"
        named = f", variant {variant}" if variant != usual else ""
        named += f", mode {mode}" if mode != "generate" else ""
        data = joined(differing(found, _data))
        yield Said(
            f"Task {name}{title}, version {version}, split {split}{named}: {data}",
            bibtex.keys(bibtex.of_task(task)),
        )


def _data(record: RunRecord) -> str:
    data, source = record.data, record.spec.source
    revision = f" at revision {source.revision[:_DIGITS]}" if source.revision else ""
    published = f", {data.published:,} as published" if data.published is not None else ""
    limit = f", drawn with seed {record.spec.seed}" if record.spec.limit else ""
    return (
        f"{data.selected:,} of {data.available:,} samples{published}{limit}, from {source.id}{revision} "
        f"({source.name}; content digest {data.digest[:_DIGITS]})"
    )


def _stack(records: Sequence[RunRecord]) -> Iterator[Said]:
    yield from _facts(records, (_hardware, _software, _numerics, _when))


def _hardware(record: RunRecord) -> str:
    device = axes.device(record)
    return f"computed on {device}" if device else "computed on no device"


def _software(record: RunRecord) -> str:
    own = {"pgbench", "pgbench code", "task"}  # said elsewhere, or of no use to a reader
    found = [
        f"{name} {version}"
        for name, version in record.stack.versions.items()
        if name not in own and version != "absent"
    ]
    return f"software: {', '.join(found)}" if found else ""


def _numerics(record: RunRecord) -> str:
    stack = record.stack
    precision = (
        [f"float32 matrix products at precision {stack.matmul_precision}"] if stack.matmul_precision else []
    )
    flags = [f"{name} {value}" for name, value in sorted(stack.numerics.items())]
    return f"numerics: {', '.join([*precision, *flags])}" if precision or flags else ""


def _when(record: RunRecord) -> str:
    return f"run on {record.started[:10]} (UTC)"
