"""What two runs differ in: what makes their numbers incomparable, and what only has to be named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pgbench.errors import DataError
from pgbench.paired.evidence import Asked, Evidence
from pgbench.paired.late import lines_of
from pgbench.store import plain

FAILED = "failed samples"
_LONGEST = 70  # characters of a prompt, or of a value, in a message
_NAMES = {"task": "task source"}  # of versions that are none of a library


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference. `refuses`: a difference of the scores could come from it and not from the models."""

    name: str
    was: str
    now: str
    refuses: bool

    @property
    def said(self) -> str:
        return f"{self.name}: {self.was} → {self.now}"


def between(before: Evidence, after: Evidence, *, drop_failed: bool = False) -> tuple[Mismatch, ...]:
    """Everything that differs, what refuses first. `drop_failed`: samples that failed on either side are left
    out, so that unequal failures do not matter. Reads prompts from the run folders where they differ."""
    found = [*_of_questions(before, after), *_of_samples(before, after), *_of_metrics(before, after)]
    failures = _of_failures(before, after)
    if failures and not drop_failed:
        found.append(failures)
    return (*found, *_named_only(before, after))


def require_comparable(before: Evidence, after: Evidence, found: Sequence[Mismatch]) -> None:
    """Raises DataError, in one line, for differences that refuse."""
    refusing = [one for one in found if one.refuses]
    if not refusing:
        return
    first, others = refusing[0], ", ".join(one.name for one in refusing[1:])
    more = f" (also: {others})" if others else ""
    hint = "--anyway compares what they share and marks it"
    if [one.name for one in refusing] == [FAILED]:
        hint = "--drop-failed leaves out samples that failed on either side"
    raise DataError(
        f"{before.place} and {after.place} cannot be compared: {first.name}: {first.was} there, {first.now} "
        f"here{more}; {hint}"
    )


def _of_questions(before: Evidence, after: Evidence) -> Iterator[Mismatch]:
    ours, theirs = before.record, after.record
    pairs = {
        "task": (ours.spec.task, theirs.spec.task),
        "task version": (f"v{ours.spec.version}", f"v{theirs.spec.version}"),
        "variant": (ours.spec.variant, theirs.spec.variant),
        "mode": (ours.spec.mode, theirs.spec.mode),
        "split": (ours.spec.split, theirs.spec.split),
        "data digest": (ours.data.digest[:12], theirs.data.digest[:12]),
    }
    for name, (was, now) in pairs.items():
        if was != now:
            yield Mismatch(name, was, now, refuses=True)


def _of_samples(before: Evidence, after: Evidence) -> Iterator[Mismatch]:
    ours, theirs = before.samples, after.samples
    shared = [name for name in ours if name in theirs]
    if len(shared) != len(ours) or len(shared) != len(theirs):
        was, now = (f"{len(some):,} ({len(some) - len(shared):,} not shared)" for some in (ours, theirs))
        yield Mismatch("samples", was, now, refuses=True)
    yield from _asked("prompts", before, after, shared, lambda one: one.prompt)
    pictured = [name for name in shared if ours[name].image and theirs[name].image]
    yield from _asked("pictures", before, after, pictured, lambda one: one.image)
    yield from _asked("references", before, after, shared, lambda one: one.target)


def _asked(
    name: str, before: Evidence, after: Evidence, shared: Sequence[str], of: Callable[[Asked], str]
) -> Iterator[Mismatch]:
    """One mismatch for all samples that differ, which shows the first."""
    other = [one for one in shared if of(before.samples[one]) != of(after.samples[one])]
    if other:
        first = other[0]
        count = f"{len(other):,} of {len(shared):,} differ, sample {first}"
        was, now = (_shown(name, run, first) or of(run.samples[first]) for run in (before, after))
        yield Mismatch(f"{name} ({count})", was, now, refuses=True)


def _shown(name: str, run: Evidence, sample: str) -> str:
    """What the sample was asked, or its references; "" where that is not kept, and of pictures."""
    line = lines_of(run, [sample]).get(sample)
    if line is None or name == "pictures":
        return ""
    if name == "prompts":
        return repr(shortened(line.prompt))
    target = line.target if isinstance(line.target, tuple) else [line.target]
    return repr(shortened(" | ".join(dict.fromkeys(map(str, target)))))


def _of_metrics(before: Evidence, after: Evidence) -> Iterator[Mismatch]:
    """The primary metric has to be on both sides; others are compared where they are."""
    primary = before.record.primary
    for name in dict.fromkeys([*before.record.scores, *after.record.scores]):
        was, now = (_has(run, name) for run in (before, after))
        if was != now:
            yield Mismatch(f"metric {name}", was, now, refuses=name in (primary, after.record.primary))


def _has(run: Evidence, metric: str) -> str:
    if metric in run.units:
        return "scored"
    return "not kept unit by unit" if metric in run.record.scores else "not scored"


def _of_failures(before: Evidence, after: Evidence) -> Mismatch | None:
    ours, theirs = (failed(run) for run in (before, after))
    shared = before.samples.keys() & after.samples.keys()
    if {name for name in ours if name in shared} == {name for name in theirs if name in shared}:
        return None
    return Mismatch(FAILED, _counted(ours), _counted(theirs), refuses=True)


def failed(run: Evidence) -> tuple[str, ...]:
    """The ids of samples without an answer, in the order of the run."""
    return tuple(name for name, one in run.samples.items() if one.failed)


def _counted(ids: Sequence[str]) -> str:
    return f"{len(ids):,} (first: {shortened(ids[0])})" if ids else "0"


def _named_only(before: Evidence, after: Evidence) -> Iterator[Mismatch]:
    asked = _choices(before), _choices(after)
    stacks = _stack(before), _stack(after)
    if asked[0]["backend"] != asked[1]["backend"]:  # an oracle has no torch: that follows from what it is
        both = [name for name in stacks[0] if _said(stacks[0][name]) and _said(stacks[1].get(name))]
        stacks = {name: stacks[0][name] for name in both}, {name: stacks[1][name] for name in both}
        if any(side["backend"] in ("oracle", "replay") for side in asked):
            asked = _without_model(asked[0]), _without_model(asked[1])
    for ours, theirs in (asked, stacks):
        for name in dict.fromkeys([*ours, *theirs]):
            was, now = ours.get(name), theirs.get(name)
            if was != now:
                yield Mismatch(name, _value(was), _value(now), refuses=False)


def _without_model(choices: Mapping[str, object]) -> dict[str, object]:
    """What is chosen for answers that no model gives; its profile and its formats are none of anything."""
    return {name: choices[name] for name in ("checkpoint", "backend", "seed", "data", "data revision")}


def _said(value: object) -> bool:
    return value not in (None, "", "none", 0)


def _choices(run: Evidence) -> dict[str, object]:
    """What was to compute the answers, flat, by the name that a person is told."""
    spec = run.record.spec
    point: dict[str, object] = plain(spec.checkpoint)
    profile = point.pop("profile")
    return {
        "checkpoint": point.pop("id"),
        **{name.replace("_", " "): value for name, value in point.items()},
        **_flat("", profile),
        "batch": spec.batch,
        "order of batches": spec.batching or "shuffled",
        "max new tokens": spec.max_new_tokens,
        "seed": spec.seed,
        "data": f"{spec.source.id} ({spec.source.name})",
        "data revision": spec.source.revision,
    }


def _stack(run: Evidence) -> dict[str, object]:
    """What did compute them."""
    stack = run.record.stack
    return {
        **{_NAMES.get(name, name): version[:12] for name, version in sorted(stack.versions.items())},
        "device": stack.device,
        "device name": stack.device_name,
        "threads": stack.threads,
        "matmul precision": stack.matmul_precision,
        **_flat("attention ", stack.attention),
        **_flat("numerics ", stack.numerics),
    }


def _flat(head: str, values: object) -> dict[str, object]:
    if not isinstance(values, Mapping):
        return {}
    return {f"{head}{name}".replace("_", " "): value for name, value in values.items()}


def _value(value: object) -> str:
    return "none" if value in (None, "") else shortened(str(value))


def shortened(text: str) -> str:
    """
    >>> shortened("a" * 100)[-4:]
    'a...'
    """
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
