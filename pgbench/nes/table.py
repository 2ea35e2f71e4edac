"""NES and NES-proxy as tables, never in one: a judge is no rater. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pgbench.nes.answers import Answers
from pgbench.nes.judge import FACTS, ProxyRun, caveat
from pgbench.nes.rated import RatedRun
from pgbench.nes.score import RATERS, Agreement, Share
from pgbench.report.table import Table, caveats

_LISTED = 10  # sentences named in a note; the sidecar has them all
_WHAT = (
    "NES: share of sentences whose majority is Neutral or Contradiction, over all captions; lower is better; "
    '"nothing to assess" is out of the denominator first, then in it'
)
_COUNTS = ("sentences", "captions", "images", "#char", "#sent")


def of_people(runs: Sequence[RatedRun], answers: Mapping[str, Answers], whole: Agreement) -> Table:
    """Human NES, one row a run."""
    raters = runs[0].raters
    return Table(
        title=(f"NES · {len(raters)} raters: {', '.join(raters)}", f"sentences by {runs[0].splitter}"),
        columns=("run", "NES", "95 % interval", "NES with nothing to assess", "95 % interval", *_COUNTS),
        rows=tuple(_person(run, answers[run.run]) for run in runs),
        notes=(
            _WHAT,
            runs[0].rule,
            RATERS,
            *(note for run in runs for note in _told(run)),
            f"agreement, all runs: {_agreement(whole)}",
            *warnings(runs, answers),
        ),
    )


def of_judge(runs: Sequence[ProxyRun], answers: Mapping[str, Answers]) -> Table:
    """NES-proxy, one row a run; the judge's name is part of the column's."""
    first = runs[0]
    what = "the facts of the drawings" if first.judge.name == FACTS else "a model read the reference captions"
    return Table(
        title=(f"{first.name} · no NES: {what}",),
        columns=("run", "NES-proxy", "95 % interval", *_COUNTS),
        rows=tuple(_proxy(run, answers[run.run]) for run in runs),
        notes=(
            first.rule,
            caveat(first.judge.name),
            *(note for run in runs for note in _judged(run)),
            *warnings(runs, answers),
        ),
    )


def named(answers: Answers) -> str:
    """A run as a row is called: what answered what, and the start of its key."""
    spec = answers.record.spec
    return f"{spec.checkpoint.id} · {spec.task} v{spec.version} {spec.split} · {answers.record.key[:8]}"


def _person(run: RatedRun, answers: Answers) -> tuple[str, ...]:
    score = run.nes
    with_nothing = _shown(score.with_nothing)
    counts = _counts(score.without_nothing, run)
    return (named(answers), *_shown(score.without_nothing), *with_nothing, *counts)


def _proxy(run: ProxyRun, answers: Answers) -> tuple[str, ...]:
    return (named(answers), *_shown(run.share), *_counts(run.share, run))


def _shown(share: Share) -> tuple[str, str]:
    if share.value is None or share.low is None or share.high is None:
        return "undefined", "none"
    return f"{100 * share.value:.2f}", f"{100 * share.low:.2f} to {100 * share.high:.2f}"


def _counts(share: Share, run: RatedRun | ProxyRun) -> tuple[str, ...]:
    means = (run.characters_per_caption, run.sentences_per_caption)
    lengths = ("none" if mean is None else f"{mean:.1f}" for mean in means)
    return (f"{share.n:,}", f"{run.captions:,}", f"{share.clusters:,}", *lengths)


def _told(run: RatedRun) -> list[str]:
    """What a row leaves out, and how far its raters agree."""
    score, name = run.nes, run.run[:8]
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in score.outcomes.items())
    notes = [f"{name}: {counts}{_missing(run.failed, run.empty)}"]
    if score.outcomes["undecided"] and score.if_undecided:
        low, high = score.if_undecided
        notes.append(f"{name}: NES from {100 * low:.2f} to {100 * high:.2f} as the undecided would fall")
    for outcome in ("undecided", "unrated"):
        rows = [f"{one.sample}#{one.sentence + 1}" for one in run.sentences if one.outcome == outcome]
        if rows:
            more = f" and {len(rows) - _LISTED:,} more" if len(rows) > _LISTED else ""
            notes.append(f"{name}: {outcome}: {', '.join(rows[:_LISTED])}{more}")
    return [*notes, f"{name}: {_agreement(score.agreement)}"]


def _judged(run: ProxyRun) -> list[str]:
    name = run.run[:8]
    labels = ", ".join(f"{count:,} {label}" for label, count in run.labels.items()) or "nothing judged"
    notes = [f"{name}: {labels}{_missing(run.failed, run.empty)}"]
    if run.unreferenced:
        notes.append(f"{name}: {run.unreferenced:,} captions without a reference, not judged")
    if run.windowed:
        notes.append(f"{name}: {run.windowed:,} sentences with a reference read in several windows")
    if run.cut:
        longest = f"{run.judge.longest:,} tokens"
        notes.append(f"{name}: {run.cut:,} sentences CUT: a pair is longer than the judge's {longest}")
    return notes


def _missing(failed: int, empty: int) -> str:
    parts = ((failed, "failed samples"), (empty, "captions without a sentence"))
    told = "".join(f"; {count:,} {what}" for count, what in parts if count)
    return f"{told} (not in NES)" if told else ""


def _agreement(found: Agreement) -> str:
    if not found.sentences:
        return "no sentence has two ratings, so agreement is undefined"
    alphas = [f"{one:.3f}" if one is not None else "undefined" for one in (found.alpha, found.alpha_binary)]
    return (
        f"Krippendorff's alpha {alphas[0]} (four categories), {alphas[1]} (Entailment or not); all agree on "
        f"Entailment or not for {100 * (found.binary or 0.0):.1f} % of {found.sentences:,} sentences with "
        "two ratings or more"
    )


def warnings(runs: Sequence[RatedRun | ProxyRun], answers: Mapping[str, Answers]) -> list[str]:
    """What the runs' own records say, and whether the rows are of the same samples."""
    found = [f"{run.run[:8]}: {line}" for run in runs for line in caveats(answers[run.run].record)]
    asked = {(answers[run.run].record.spec.task, answers[run.run].record.data.digest) for run in runs}
    sets = {tuple(sorted(line.id for line in answers[run.run].lines)) for run in runs}
    if len(asked) > 1 or len(sets) > 1:
        found.append("NOT COMPARABLE between rows: the runs answered different samples")
    return found
