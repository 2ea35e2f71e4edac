"""How often two stored runs score a sample differently: what the size of a comparison is planned from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pgbench import store
from pgbench.errors import DataError, StoreError, UsageError, unknown
from pgbench.power import design_effect, design_effect_of_clusters, is_binary, moved_between
from pgbench.records import RunRecord, SampleLine
from pgbench.samples import read_lines


@dataclass(frozen=True, slots=True)
class Stored:
    """One metric of a stored run: the score, picture and cluster of each sample."""

    run: Path
    record: RunRecord
    metric: str
    scores: dict[str, float]  # by sample id
    images: dict[str, str]  # "" where none was opened
    clusters: dict[str, str]  # "" where it is not known
    deff: float | None  # of the mean; None where it cannot be told

    @property
    def per_cluster(self) -> float:
        """Samples a cluster, on average."""
        return len(self.scores) / self.record.scores[self.metric].clusters

    @property
    def split_size(self) -> int:
        """Samples of the split: as published, where that is known."""
        return self.record.data.published or self.record.data.available


@dataclass(frozen=True, slots=True)
class Flips:
    """What two runs of the same questions differ by, sample by sample."""

    samples: int  # that both answered
    moved: float  # mean squared difference of a sample's two scores; the flip rate where scores are 0 or 1
    binary: bool
    lost: int  # samples that the first run scores higher
    gained: int
    change: float  # mean difference, a fraction
    deff: float | None  # of that mean; None where it cannot be told
    deff_of: str = "differences"  # or "scores": an approximation, where clusters were not stored


def read(run: Path, metric: str | None) -> Stored:
    """Raises StoreError for a run without a record, UsageError for a metric that is no mean over samples."""
    folder = run.parent if run.is_file() else run
    record = store.read_record(folder)
    if record is None:
        raise StoreError(f"{folder} holds no finished run; name a run folder, results/runs/TASK/RUN")
    name = metric or record.primary
    if name not in record.scores:
        raise UsageError(unknown(f"metric of {folder}", name, record.scores))
    lines = [line for line in read_lines(folder) if line.stats.get(name, {}).get("n") != 0]
    scores = _scores(lines, name)
    score = record.scores[name]
    if score.interval == "bootstrap" or score.number or not 2 <= len(scores) == score.n:
        raise UsageError(
            f"{name} of {folder} is no mean of one fraction a sample (of two samples or more); "
            "choose another with --metric"
        )
    known = [line for line in lines if line.id in scores]
    alone = 1.0 if score.clusters == score.n else None
    effect = design_effect(list(scores.values()), score.stderr) if score.stderr is not None else None
    return Stored(
        run=folder,
        record=record,
        metric=name,
        scores=scores,
        images={line.id: line.image for line in known},
        clusters=_clusters(known, score.clusters),
        deff=effect or alone,
    )


def _scores(lines: Sequence[SampleLine], metric: str) -> dict[str, float]:
    """Empty where the metric is none of one fraction a sample."""
    found = {}
    for line in lines:
        sums = line.stats.get(metric)
        if sums is None:  # without references
            continue
        if not {"sum", "n"} <= sums.keys():
            return {}
        found[line.id] = sums["sum"] / sums["n"]
    return found


def _clusters(lines: Sequence[SampleLine], count: int) -> dict[str, str]:
    """Lines of schema 1 keep the picture's hash alone: it is the cluster where there are as many pictures."""
    if all(line.cluster for line in lines):
        return {line.id: line.cluster for line in lines}
    pictures = {line.image for line in lines}
    if "" not in pictures and len(pictures) == count:
        return {line.id: line.image for line in lines}
    return dict.fromkeys((line.id for line in lines), "")


def between(first: Stored, second: Stored) -> Flips:
    """Raises DataError for runs of other questions or pictures, or ones that never differ."""
    _require_same(first, second)
    ids = [name for name in first.scores if name in second.scores]
    if len(ids) < 2:
        raise DataError(f"{first.run} and {second.run} share {len(ids)} samples; two or more are needed")
    ours, theirs = ([one.scores[name] for name in ids] for one in (first, second))
    moved = moved_between(ours, theirs)
    if not moved:
        raise DataError(
            f"{first.run} and {second.run} score equally on all {len(ids):,} samples, which tells nothing of "
            "how often two checkpoints differ; assume a rate with --flip-rate"
        )
    deff, deff_of = _deff(first, second, ids)
    return Flips(
        samples=len(ids),
        moved=moved,
        binary=is_binary(ours, theirs),
        lost=sum(a > b for a, b in zip(ours, theirs, strict=True)),
        gained=sum(a < b for a, b in zip(ours, theirs, strict=True)),
        change=(sum(theirs) - sum(ours)) / len(ids),
        deff=deff,
        deff_of=deff_of,
    )


def _deff(first: Stored, second: Stored, ids: Sequence[str]) -> tuple[float | None, str]:
    """The design effect of the differences; of the two scores, the larger one, where clusters are unknown."""
    clusters: dict[str, list[float]] = defaultdict(list)
    for name in ids:
        clusters[first.clusters[name]].append(first.scores[name] - second.scores[name])
    if "" not in clusters:
        found = design_effect_of_clusters(clusters)
        if found is not None:
            return found, "differences"
    return max((one.deff for one in (first, second) if one.deff is not None), default=None), "scores"


def _require_same(first: Stored, second: Stored) -> None:
    """Raises DataError for runs of other questions, or of other pictures."""
    places = [
        {
            "task": one.record.spec.task,
            "task version": one.record.spec.version,
            "split": one.record.spec.split,
            "variant": one.record.spec.variant,
            "mode": one.record.spec.mode,
            "metric": one.metric,
            "annotations": one.record.data.digest[:8],
        }
        for one in (first, second)
    ]
    for name, value in places[0].items():
        if value != places[1][name]:
            raise DataError(
                f"{first.run} has {name} {value}, {second.run} {places[1][name]}; "
                "name two runs of the same questions"
            )
    for name, image in first.images.items():
        if image and second.images.get(name) and second.images[name] != image:
            raise DataError(
                f"sample {name} had another picture in {second.run}; name two runs of the same data"
            )
