"""The answers behind a table's cells, held against each other sample by sample. Reads run folders, late."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pgbench.errors import DataError, UsageError
from pgbench.paired import aligned
from pgbench.paired.differences import between
from pgbench.paired.evidence import Evidence
from pgbench.paired.reading import read
from pgbench.report.deltas import Against, deltas
from pgbench.report.entries import Item, Run, Wanted, of_run
from pgbench.report.marks import ALPHA, Verdict
from pgbench.stats import paired_interval, swap_test
from pgbench.types import Direction

_FINE = 40  # tests of one family for which the usual draws find p finely enough
_KEPT = 64  # runs whose statistics are held: about 2 MiB each with 5,000 samples


@dataclass(frozen=True, slots=True)
class Span:
    """A paired difference with its interval, as fractions."""

    value: float
    low: float | None
    high: float | None


class Answers:
    """What `report.marks` asks of answers. `watch` is called for each run that is read."""

    def __init__(self, files: Mapping[str, str], watch: Callable[[], object] = lambda: None) -> None:
        self._files, self._watch = files, watch
        self._kept: OrderedDict[str, Evidence] = OrderedDict()
        self._verdicts: dict[tuple[str, str, str, str], tuple[int, Verdict]] = {}  # and for which family

    def verdict(self, before: Item, after: Item, family: int) -> Verdict:
        """Raises StoreError for a run whose answers are lost or damaged."""
        if before.run is None or after.run is None:
            return Verdict(refusal="not of one run")
        what = before.keys["metric"], before.keys["group"]
        key = (before.run.place, after.run.place, *what)
        back = (after.run.place, before.run.place, *what)
        for way in (key, back):
            made_for, known = self._verdicts.get(way, (0, None))
            if known is not None and made_for >= family:
                return known if way == key else _turned(known)
        fine = max(family, _FINE)
        one, other = self._evidence(before), self._evidence(after)
        found = _verdict(one, other, what[0], _group(what[1]), fine)
        self._verdicts[key] = fine, found
        return found

    def direction(self, item: Item) -> Direction | None:
        """None: no value of the metric is better than another, or it is one number of the whole run."""
        units = self._evidence(item).units.get(item.keys["metric"])
        return units.direction if units else None

    def spans(self, runs: Sequence[Run], metric: str | None) -> dict[tuple[str, str], Span]:
        """(key of an unquantized run, key of a quantized one like it) -> their difference, for figures.

        Raises StoreError.
        """
        items = [item for run in runs for item in of_run(run, Wanted((metric,) if metric else ()))]
        found = {}
        for place, delta in deltas(items, Against("quant", "none", quiet=True)).items():
            if delta.base is None or delta.value is None:
                continue
            base, item = items[delta.base], items[place]
            verdict = self.verdict(base, item, 1)
            if base.run and item.run and not verdict.refusal:
                keys = base.run.record.key, item.run.record.key
                found[keys] = Span(delta.value, verdict.low, verdict.high)
        return found

    def _evidence(self, item: Item) -> Evidence:
        place = item.run.place if item.run else ""
        if place in self._kept:
            self._kept.move_to_end(place)
            return self._kept[place]
        self._kept[place] = found = read(place, self._files)
        self._watch()
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found


def _group(text: str) -> tuple[str, str] | None:
    name, _, value = text.partition("=")
    return (name, value) if name else None


def _turned(verdict: Verdict) -> Verdict:
    """The same two runs the other way round: a two-sided p stays."""
    low, high = verdict.low, verdict.high
    return replace(verdict, low=None if high is None else -high, high=None if low is None else -low)


def _verdict(
    before: Evidence, after: Evidence, metric: str, group: tuple[str, str] | None, family: int
) -> Verdict:
    mine = f"metric {metric}"
    found = [one for one in between(before, after) if one.refuses]
    refusing = [one for one in found if one.name == mine or not one.name.startswith("metric ")]
    if refusing:
        return Verdict(refusal=f"other {refusing[0].name}")
    try:
        both = aligned.pair(before, after, metric, group)
        units = both.units
        span = paired_interval(both.pair, units.reduce, mean=units.is_mean, bounded=both.bounded)
        test = swap_test(
            both.pair, units.reduce, alternative="two-sided", mean=units.is_mean, floor=ALPHA / family
        )
    except (DataError, UsageError) as error:  # one number of the whole run, or undefined for some draws
        return Verdict(refusal=_said(error, before, after))
    return Verdict(
        low=span.low,
        high=span.high,
        p=test.p,
        interval=span.kind,
        test=test.kind,
        disagreeing=test.disagreeing,
        draws=test.draws,
        seed=test.seed,
    )


def _said(error: Exception, before: Evidence, after: Evidence) -> str:
    """The reason without the folders, which a table does not name."""
    text = str(error)
    for run in (before, after):
        text = text.replace(run.place, "a run")
    return text
