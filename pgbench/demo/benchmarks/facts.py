"""Which sentences about a drawing are true: its reference says all there is to say, so it decides.

A judge for `pgbench nes judge` beside those of transformers. A sentence with the form of a fact that the
reference lacks is false of the drawing; one of another form says nothing that can be looked up.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pgbench.backends.nli import Label, Pair, Splitter, Verdict
from pgbench.demo.benchmarks.drawn import ID
from pgbench.demo.world import COLOURS, SHAPES
from pgbench.errors import UsageError
from pgbench.nes.answers import Answers
from pgbench.nes.judge import FACTS

FLAG = "facts"  # what --judge calls it
FORMS = (
    re.compile(
        rf"A (small|large) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)}) is in the (top|bottom) (left|right)\."
    ),
    re.compile(r"The (sign|label) says [A-Z0-9]+\."),
)


@dataclass(frozen=True, slots=True)
class Facts:
    """A judge that reads two kinds of sentence and is never wrong about them."""

    name: str = FACTS
    revision: str = field(default_factory=lambda: hashlib.sha256(Path(__file__).read_bytes()).hexdigest())
    labels: tuple[str, ...] = ("entailment", "neutral", "contradiction")
    longest: int = 0  # tokens; it counts none
    device: str = "cpu"
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return self.revision

    def judge(
        self, pairs: Sequence[Pair], _split: Splitter, _batch: int, watch: Callable[[int], object]
    ) -> list[Verdict]:
        """One verdict a pair, in their order; `watch` gets the number of pairs done."""
        found = []
        for pair in pairs:
            found.append(Verdict(truth(pair.hypothesis, " ".join(pair.premises)), len(pair.premises), False))
            watch(1)
        return found


def truth(sentence: str, reference: str) -> Label:
    """Whether a sentence is true (entailment), false (contradiction) or says nothing of this kind (neutral).

    A splitter may take two statements for one sentence, after an abbreviation on a sign: then all of them
    have to be true.

    >>> truth("The sign says STOP.", "A small red circle is in the top left. The sign says STOP.")
    'entailment'
    >>> truth("The sign says SHOP.", "The sign says STOP."), truth("A nice sign.", "The sign says STOP.")
    ('contradiction', 'neutral')
    """
    said, known = statements(sentence), set(statements(reference))
    if said and known.issuperset(said):
        return "entailment"
    false = any(form.fullmatch(one) for one in said if one not in known for form in FORMS)
    return "contradiction" if false else "neutral"


def statements(text: str) -> list[str]:
    """A text cut after its full stops, each run of white space as one space."""
    return [" ".join(one.split()) for one in re.split(r"(?<=\.)\s+", text.strip()) if one]


def judge_of(runs: Iterable[Answers], revision: str | None = None) -> Facts:
    """The judge, for runs on drawings. Raises UsageError for a run on anything else, and for a revision."""
    if revision is not None:
        raise UsageError(
            f"--judge {FLAG} is no checkpoint and has no revision; leave out --revision {revision}"
        )
    for one in runs:
        if one.record.spec.source.id != ID or not one.record.data.demo:
            raise UsageError(
                f"--judge {FLAG}: {one.folder} was not asked about drawn scenes, whose facts are known; "
                "name the hub id or folder of an NLI checkpoint"
            )
    return Facts()
