"""Human NES of the runs of one sheet, and the sidecar that keeps it beside each run's record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pgbench.durable import read_json, write_json
from pgbench.errors import DataError, StoreError
from pgbench.nes import ratings
from pgbench.nes.answers import Answers, characters, cluster, text_key
from pgbench.nes.key import Key, RowOfSheet
from pgbench.nes.score import TIE_RULE, Agreement, Nes, Outcome, Rated, Rating, agreement, majority, nes

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Sentence:
    """One rated sentence, so that a reader can count again."""

    sample: str
    sentence: int
    votes: Mapping[str, Rating]  # by rater
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class RatedRun:
    """What people say of one run's captions: the sidecar's content. It names no folder."""

    schema: int
    kind: str  # nes
    run: str  # the run's key
    answers: str  # digest of the rated answers
    sheet: str
    ratings: str  # digest of the sheet with all that was rated
    splitter: str
    rule: str
    raters: tuple[str, ...]
    captions: int
    failed: int  # samples without an answer: no sentence
    empty: int  # captions without a sentence
    characters_per_caption: float | None  # #char, over answered captions
    sentences_per_caption: float | None  # #sent, over answered captions
    nes: Nes
    sentences: tuple[Sentence, ...]

    @property
    def file(self) -> str:
        """The sidecar's name: equal ratings meet in one file, other ratings never overwrite it."""
        return f"nes-{self.ratings[:8]}.json"


def rate(key: Key, runs: Mapping[str, Answers], raters: Sequence[ratings.Rater]) -> tuple[RatedRun, ...]:
    """One score a run, in the order of the keys. Raises DataError for a caption that is another by now."""
    digest = ratings.digest(key.digest, raters)
    return tuple(_rate(key, name, answers, raters, digest) for name, answers in sorted(runs.items()))


def together(runs: Sequence[RatedRun]) -> Agreement:
    """The raters' agreement over the whole sheet."""
    return agreement([tuple(one.votes.values()) for run in runs for one in run.sentences])


def save(run: RatedRun, folder: Path) -> Path:
    """Write the sidecar beside the record, which stays as it is. Raises StoreError."""
    path = folder / run.file
    write_json(path, asdict(run))
    return path


def load(path: Path) -> RatedRun:
    """A sidecar read back. Raises StoreError for a foreign one."""
    from pydantic import TypeAdapter, ValidationError

    document = read_json(path)
    if not isinstance(document, dict) or (document.get("kind"), document.get("schema")) != ("nes", SCHEMA):
        raise StoreError(f"{path} is no NES of schema {SCHEMA}")
    try:
        return TypeAdapter(RatedRun).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise StoreError(f"{path} is no NES: {where}: {first['msg']}") from error


def _rate(key: Key, name: str, answers: Answers, raters: Sequence[ratings.Rater], digest: str) -> RatedRun:
    lines = {line.id: line for line in answers.lines}
    clusters = {sample: cluster(line) for sample, line in lines.items()}
    digests = {sample: text_key(line.output) for sample, line in lines.items()}
    sentences, rows = [], []
    mine = ((row, place) for row, place in key.rows.items() if place.run == name)
    for row, place in sorted(mine, key=lambda one: (one[1].sample, one[1].sentence)):
        _require_same(place, digests)
        votes = {rater.name: rater.ratings[row] for rater in raters if row in rater.ratings}
        given = tuple(votes.values())
        rows.append(Rated(place.sample, place.sentence, clusters[place.sample], given))
        sentences.append(Sentence(place.sample, place.sentence, votes, majority(given)))
    told = key.runs[name]
    answered = told.captions + told.empty
    return RatedRun(
        schema=SCHEMA,
        kind="nes",
        run=name,
        answers=answers.digest,
        sheet=key.digest,
        ratings=digest,
        splitter=key.splitter,
        rule=TIE_RULE,
        raters=tuple(rater.name for rater in raters),
        captions=told.captions,
        failed=told.failed,
        empty=told.empty,
        characters_per_caption=characters(answers.lines),
        sentences_per_caption=len(rows) / answered if answered else None,
        nes=nes(rows),
        sentences=tuple(sentences),
    )


def _require_same(place: RowOfSheet, digests: Mapping[str, str]) -> None:
    if digests.get(place.sample) != place.caption:
        raise DataError(
            f"the key has a row of another caption of sample {place.sample}; restore the sheet's key"
        )
