"""NES-proxy: what a natural-language-inference judge says of captions, given the reference captions.

It is no NES. The judge never sees the image: a true detail that the annotator left out of the reference
counts as not entailed, so that a proxy over-states NES and favours short captions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from pgbench.backends.nli import Pair, Verdict
from pgbench.durable import write_json
from pgbench.keys import json_key
from pgbench.nes.answers import Caption, Captions, Splitter, characters, cluster
from pgbench.nes.score import Share, share
from pgbench.records import SampleLine
from pgbench.specs import file_name

SCHEMA = 1
CAVEAT = (
    "a reference-based proxy over-states NES where captions tell true details that the reference leaves "
    "out, and favours short captions; it is calibrated against no rater and never compared with human NES"
)
RULE = (
    "premise: each reference caption, in windows of whole sentences where it is longer than the judge reads; "
    "a sentence is entailed if any window says so, else the window nearest to entailment decides"
)

# The judge that knows what is drawn, pgbench.demo.benchmarks.facts; a name that no hub id can have.
FACTS = "facts of drawings"
FACTS_CAVEAT = (
    "exact for drawings, whose references say all there is; a sentence that is worded in another way counts "
    "as not entailed; it says nothing about photographs"
)
FACTS_RULE = "a sentence is entailed if each of its statements stands in the reference caption"


class Judging(Protocol):
    """What is asked of a judge; `pgbench.backends.nli.Judge` is one."""

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def longest(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def versions(self) -> Mapping[str, str]: ...
    def judge(
        self, pairs: Sequence[Pair], split: Splitter, batch: int, watch: Callable[[int], object], /
    ) -> list[Verdict]: ...


@dataclass(frozen=True, slots=True)
class NamedJudge:
    name: str
    revision: str
    digest: str  # of the checkpoint's content
    labels: tuple[str, ...]
    longest: int  # tokens
    device: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Judged:
    sample: str
    sentence: int  # its place in the caption, from 0
    label: str


@dataclass(frozen=True, slots=True)
class ProxyRun:
    """What a judge says of one run's captions: the sidecar's content. It names no folder."""

    schema: int
    kind: str  # nes-proxy
    name: str  # NES-proxy (judge@revision)
    judge: NamedJudge
    run: str  # the run's key
    answers: str  # digest of the judged answers
    references: str  # digest of what they were held against
    splitter: str
    rule: str
    batch: int
    captions: int
    failed: int  # samples without an answer
    empty: int  # captions without a sentence
    unreferenced: int  # captions without a reference: not judged
    characters_per_caption: float | None
    sentences_per_caption: float | None
    share: Share  # of sentences that are not entailed
    labels: Mapping[str, int]
    windowed: int  # sentences whose reference was read in more windows than there are references
    cut: int  # sentences of which a pair was longer than the judge reads, even as one window
    sentences: tuple[Judged, ...]

    @property
    def file(self) -> str:
        """The sidecar's name: another judge, other answers or other references never overwrite it."""
        parts = {
            "judge": self.judge.digest,
            "answers": self.answers,
            "references": self.references,
            "splitter": self.splitter,
        }
        return f"nes-proxy-{file_name(self.judge.name)}-{json_key(parts)[:8]}.json"


def judge_run(
    run: Captions, judge: Judging, split: Splitter, splitter: str, batch: int, watch: Callable[[int], object]
) -> ProxyRun:
    """Every sentence of a run before the judge. Raises CheckpointError for a judge that fails."""
    judged = [caption for caption in run.captions if references(caption.line)]
    rows = [(caption, place) for caption in judged for place in range(len(caption.sentences))]
    pairs = [Pair(references(caption.line), caption.sentences[place]) for caption, place in rows]
    verdicts = judge.judge(pairs, split, batch, watch)
    told = run.answers
    answered = len(run.captions) + run.empty
    return ProxyRun(
        schema=SCHEMA,
        kind="nes-proxy",
        name=f"NES-proxy ({judge.name}@{judge.revision[:8]})",
        judge=_named(judge),
        run=told.record.key,
        answers=told.digest,
        references=json_key({"references": sorted([line.id, *references(line)] for line in told.lines)}),
        splitter=splitter,
        rule=FACTS_RULE if judge.name == FACTS else RULE,
        batch=batch,
        captions=len(judged),
        failed=run.failed,
        empty=run.empty,
        unreferenced=len(run.captions) - len(judged),
        characters_per_caption=characters(told.lines),
        sentences_per_caption=sum(len(c.sentences) for c in run.captions) / answered if answered else None,
        share=_share(rows, verdicts),
        labels=dict(sorted(Counter(verdict.label for verdict in verdicts).items())),
        windowed=sum(v.windows > len(pair.premises) for v, pair in zip(verdicts, pairs, strict=True)),
        cut=sum(verdict.cut for verdict in verdicts),
        sentences=tuple(
            Judged(caption.line.id, place, verdict.label)
            for (caption, place), verdict in zip(rows, verdicts, strict=True)
        ),
    )


def caveat(judge: str) -> str:
    """What its verdicts must not be taken for."""
    return FACTS_CAVEAT if judge == FACTS else CAVEAT


def references(line: SampleLine) -> tuple[str, ...]:
    """The reference captions of a sample that hold text."""
    given = (line.target,) if isinstance(line.target, str) else line.target or ()
    return tuple(text for text in given if text.strip())


def save(run: ProxyRun, folder: Path) -> Path:
    """Write the sidecar beside the record, which stays as it is. Raises StoreError."""
    path = folder / run.file
    write_json(path, asdict(run))
    return path


def _share(rows: list[tuple[Caption, int]], verdicts: list[Verdict]) -> Share:
    return share(
        (cluster(caption.line), verdict.label != "entailment")
        for (caption, _), verdict in zip(rows, verdicts, strict=True)
    )


def _named(judge: Judging) -> NamedJudge:
    return NamedJudge(
        judge.name,
        judge.revision,
        judge.digest,
        judge.labels,
        judge.longest,
        judge.device,
        judge.versions,
    )
