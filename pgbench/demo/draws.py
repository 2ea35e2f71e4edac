"""Draws from a generator by `random()` alone, whose sequence Python promises to keep for a seed.

https://docs.python.org/3/library/random.html#notes-on-reproducibility
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def pick(generator: random.Random, choices: Sequence[Item]) -> Item:
    """One of them, each as likely."""
    return choices[int(generator.random() * len(choices))]


def whole(generator: random.Random, least: int, greatest: int) -> int:
    """A whole number from `least` to `greatest`, both possible."""
    return least + int(generator.random() * (greatest - least + 1))


def shuffled(generator: random.Random, items: Sequence[Item]) -> list[Item]:
    """All of them in an order of chance."""
    return [items[place] for _, place in sorted((generator.random(), place) for place in range(len(items)))]
