"""What is said with a comparison: warnings above it, remarks below, counts of samples. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from pgbench.records import RunRecord
from pgbench.report.entries import Item, Run

Usual: TypeAlias = Mapping[tuple[str, ...], int | None]  # of a question: the samples that most cells have

_SETS = 12  # sets of samples that a remark names
_RUNS = 5


def question(item: Item) -> tuple[str, ...]:
    """What tells sets of samples apart."""
    return tuple(item.keys[axis] for axis in ("task", "version", "split", "group", "rater"))


def usual(items: Sequence[Item]) -> Usual:
    """How many samples most cells of each question have. Ratings say their own n, of sentences."""
    counts: dict[tuple[str, ...], Counter[int | None]] = {}
    for item in items:
        if not item.keys["rater"]:
            counts.setdefault(question(item), Counter())[item.n] += 1
    return {
        asked: max(found, key=lambda n: (found[n], n or 0))  # of as many cells the larger number
        for asked, found in counts.items()
    }


def scored(items: Sequence[Item]) -> tuple[list[Item], list[str]]:
    """The numbers of runs that have any, and a remark on runs of a split without references, which stand
    in no table beside others. Where there are no others, all of them."""
    known = {item.run.record.key for item in items if item.run and item.value is not None}
    bare = [item for item in items if item.run and _bare(item.run) and item.run.record.key not in known]
    if not bare or len(bare) == len(items):
        return list(items), []
    places: dict[str, dict[str, None]] = {}
    for item in bare:
        if item.run:
            places.setdefault(f"{item.keys['task']} {item.keys['split']}", {})[item.run.place] = None
    told = "; ".join(f"{where}: {_shortened(list(found))}" for where, found in places.items())
    return [item for item in items if item not in bare], [
        f"runs of a split without references, in no column and no cost: {told}"
    ]


def _bare(run: Run) -> bool:
    data = run.record.data
    return bool(data.unscored) and data.unscored == data.selected


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - _RUNS:,} more" if len(names) > _RUNS else ""
    return ", ".join(names[:_RUNS]) + more


def samples(own: Sequence[Item], known: Usual) -> str:
    """n of each question, and whether any failed."""
    failed: Counter[tuple[str, ...]] = Counter()
    for item in own:
        failed[question(item)] = max(failed[question(item)], item.failed)
    shown = [
        f"{_where(asked)}: {count:,}"
        + (f" (up to {failed[asked]:,} failed, scored 0)" if failed[asked] else "")
        for asked, count in known.items()
        if count is not None
    ]
    more = f"; and {len(shown) - _SETS} more" if len(shown) > _SETS else ""
    broken = sum(bool(item.failed) for item in own)
    told = f"{broken:,} of {len(own):,} cells have failed samples" if broken else "none failed"
    return f"n, samples scored: {'; '.join(shown[:_SETS])}{more}; {told}"


def _where(asked: tuple[str, ...]) -> str:
    return " ".join(filter(None, asked))


def intervals(own: Sequence[Item]) -> list[str]:
    """Which kinds the intervals of the scores are of."""
    kinds = sorted({item.score.interval for item in own if item.score} - {"none"})
    return [f"intervals of scores: 95 % ({', '.join(kinds)})"] if kinds else []


def noise(compared: Sequence[RunRecord], *, asked: bool) -> list[str]:
    """What the batch alone changes, as the doctor counted it on the stacks of runs that are compared.

    Of several verdicts at one level the lowest share. `asked`: say so where nobody counted.
    """
    runs = [one for one in compared if one.spec.checkpoint.backend == "paligemma"]
    shares: dict[tuple[str, int], set[tuple[float, int]]] = {}
    for one in runs:
        if found := _shared(one):
            known = shares.setdefault((_level(one), int(found["batch"])), set())
            known.add((found["equal"], int(found["n"])))
    told = []
    for (level, batch), known in shares.items():
        equal, n = min(known)
        count = f"{100 * equal:.4g} % of {n:,} in {level}{', the lowest share' if len(known) > 1 else ''}"
        told.append(
            f"answers equal at batch 1 and batch {batch}: {count}; {_meaning(equal)} (pgbench doctor)"
        )
    missing = sum(_shared(one) is None for one in runs)
    if missing and asked:
        where = "the runs" if missing == len(runs) else f"{missing:,} of {len(runs):,} runs"
        told.append(f"no doctor verdict on {where} compared: what the batch alone changes is unknown")
    return told


def _shared(record: RunRecord) -> Mapping[str, float] | None:
    """What the doctor's probe of batches counted; None where none was put."""
    verdict = record.stack.doctor
    found = next((one.figures for one in verdict.findings if one.probe == "batch"), {}) if verdict else {}
    return found if {"equal", "n", "batch"} <= found.keys() else None


def _meaning(equal: float) -> str:
    if equal == 1:
        return "none changed with the batch alone"
    return f"a difference of up to {100 * (1 - equal):.3g} points can be the batch's alone"


def _level(record: RunRecord) -> str:
    point = record.spec.checkpoint
    return point.dtype if point.quant == "none" else point.quant


def warnings(own: Sequence[Item]) -> list[str]:
    """What numbers of a table cannot be taken for, each once, with how many it is said of."""
    counts: Counter[str] = Counter()
    for item in own:
        counts.update(dict.fromkeys(text for note in item.notes if (text := _warning(note))).keys())
    return [
        text if count == len(own) else f"{text} ({count:,} of {len(own):,} cells, see footnotes)"
        for text, count in sorted(counts.items(), key=lambda one: (not one[0].startswith("DEMO"), one[0]))
    ]


def _warning(note: str) -> str:
    """The sort of caveat that a footnote is, as report.table.caveats words them; "": none."""
    if note.startswith("DEMO NUMBERS"):
        return "DEMO NUMBERS: they say nothing about PaliGemma"
    if note.startswith("LIMITED"):
        return "LIMITED runs: a part of the samples only"
    if note.startswith("INCOMPLETE SPLIT"):
        return "INCOMPLETE SPLIT: not comparable with published numbers"
    if note.startswith("NO MODEL"):
        return note
    if note.startswith("BROKEN STACK"):
        return "BROKEN STACK: a probe of pgbench doctor failed"
    if note.startswith("may have been trained on"):
        return "CONTAMINATED: checkpoints that may have been trained on the samples"
    return "FAILED samples, scored 0" if " failed, first: " in note else ""
