"""What answering without looking scores on drawn benchmarks: the level that shuffled pictures must fall to.

Whoever does not look knows the question: for each kind of question it gives the best single answer, or where
the question offers two the better of the first and the second, or the best letter, or of numbers to choose
from the one that is right most often.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from pgbench.demo.questions import LETTERS
from pgbench.errors import DataError
from pgbench.types import Metric, Sample, Task

CAPTIONS = 8  # tried as the constant one
TRIED = 40  # answers of a kind, the commonest first
MMVP = 0.25  # a pair: two independent guesses among two; the best constant answer gets none
OFFERED = re.compile(r"is the \w+ (?:(?:on|at) the )?(\w+) or (?:(?:on|at) the )?(\w+)\?")

Guess = Callable[[Sample], str]


def chance(task: Task, samples: Sequence[Sample]) -> float:
    """The best blind score of a drawn benchmark under its primary metric, as a fraction.

    Raises DataError for a task without drawn samples.
    """
    if not samples or any("asks" not in sample.groups for sample in samples):
        raise DataError(f"chance is of drawn samples, which say what they ask; these of {task.name} do not")
    if task.name == "mmvp":
        return MMVP
    metric = next(one for one in task.metrics if one.primary)
    said = {
        sample.id: guess(sample)
        for kind in _kinds(samples)
        for guess in [_best(task, metric, kind)]
        for sample in kind
    }
    return _score(metric, samples, lambda sample: said[sample.id])


def by_kind(task: Task, samples: Sequence[Sample]) -> dict[str, float]:
    """The same for each kind of question by itself. Raises DataError."""
    kinds: dict[str, list[Sample]] = {}
    for sample in samples:
        kinds.setdefault(sample.groups.get("asks", ""), []).append(sample)
    return {name: chance(task, found) for name, found in sorted(kinds.items())}


def _kinds(samples: Iterable[Sample]) -> list[list[Sample]]:
    """Samples that a blind answer is chosen for together: of one kind, setting and sort of options."""
    kinds: dict[tuple[object, ...], list[Sample]] = {}
    for sample in samples:
        group = (sample.groups["asks"], sample.groups.get("setting"), len(sample.options), _numbers(sample))
        kinds.setdefault(group, []).append(sample)
    return list(kinds.values())


def _best(task: Task, metric: Metric, kind: Sequence[Sample]) -> Guess:
    return max(_guesses(task, kind), key=lambda guess: _score(metric, kind, guess))


def _guesses(task: Task, kind: Sequence[Sample]) -> list[Guess]:
    """Constant answers, and where questions offer two in their words the first and the second of them."""
    golds = Counter(task.gold(sample) for sample in kind)
    if task.name == "docci":
        return [_constant(text) for text in islice(golds, CAPTIONS)]
    guesses = [_constant(text) for text, _ in golds.most_common(TRIED)]
    if all(OFFERED.fullmatch(sample.question) for sample in kind):
        guesses += [_place(1), _place(2)]
    if all(map(_numbers, kind)):
        guesses.append(_likeliest(task, kind))
    return guesses


def _numbers(sample: Sample) -> bool:
    """Whether it offers numbers, of which few are seen more often than many."""
    return bool(sample.options) and all(option.isdigit() for option in sample.options)


def _likeliest(task: Task, kind: Sequence[Sample]) -> Guess:
    """Of the options, the one that is the right one of most samples."""
    right = Counter(sample.options[LETTERS.index(str(sample.target).upper())] for sample in kind)

    def guess(sample: Sample) -> str:
        place = max(range(len(sample.options)), key=lambda place: right[sample.options[place]])
        return task.gold(replace(sample, target=LETTERS[place]))

    return guess


def _constant(text: str) -> Guess:
    return lambda _sample: text


def _place(place: int) -> Guess:
    def guess(sample: Sample) -> str:
        offered = OFFERED.fullmatch(sample.question)
        return offered[place] if offered else ""

    return guess


def _score(metric: Metric, samples: Iterable[Sample], guess: Guess) -> float:
    total: Counter[str] = Counter()
    for sample in samples:
        total.update(metric.stat([(sample, guess(sample))]))
    sums: Mapping[str, float] = total
    value = metric.reduce(sums)
    return 0.0 if value is None else value
