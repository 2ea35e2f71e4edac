"""Scores for model cards on the Hugging Face hub: `.eval_results/*.yaml`, and model-index, its predecessor.

Both are built by huggingface_hub's own classes; values are in percent, as cards have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pgbench.errors import UsageError, unknown
from pgbench.exports import facts
from pgbench.exports.asked import Asked
from pgbench.exports.gathering import Run, require_hub
from pgbench.exports.writing import Output, as_yaml
from pgbench.records import RunRecord, Score
from pgbench.specs import cell_name, file_name

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, EvalResultEntry

_KIND = "image-text-to-text"  # the hub's name of what PaliGemma does


def eval_results(runs: Sequence[Run], out: Path, asked: Asked) -> Iterator[Output]:
    """One entry a run. `out` ending in .yaml holds all of them; else it is a folder, with a file a run.

    Raises UsageError for runs of several checkpoints, for data that are not of the hub, for a score that is
    not there, and for a source without an address.
    """
    _require_one_model(runs)
    if asked.source_name is not None and asked.source_url is None:
        raise UsageError("--source-name needs the address it is the name of: --source-url URL")
    entries = [_entry(run, asked) for run in runs]
    if out.suffix in (".yaml", ".yml"):
        yield Output(out, partial(_pieces, entries))
        return
    names = [f"{file_name(run.record.spec.task)}-{cell_name(run.record.spec)}" for run in runs]
    for run, name, entry in zip(runs, names, entries, strict=True):
        told_apart = f"{name}-{file_name(run.record.key[:8])}" if names.count(name) > 1 else name
        yield Output(out / f"{told_apart}.yaml", partial(_pieces, [entry]))


def _entry(run: Run, asked: Asked) -> EvalResultEntry:
    entry_of = _classes()[0]
    record, spec = run.record, run.record.spec
    metric = asked.metric or record.primary
    return entry_of(
        dataset_id=require_hub(run),
        task_id=asked.task_id or spec.task,
        value=_value(run, metric),
        dataset_revision=spec.source.revision,
        date=record.finished,
        source_url=asked.source_url,
        source_name=asked.source_name,
        notes="; ".join(facts.told(record, metric)),
    )


def _pieces(entries: Sequence[EvalResultEntry]) -> Iterator[bytes]:
    yield as_yaml(_classes()[1](list(entries)))


def model_index(runs: Sequence[Run], out: Path, asked: Asked) -> Iterator[Output]:
    """All metrics of the runs as the front matter of a model card. `out` is a file.

    Raises UsageError for runs of several checkpoints, and where nothing was scored.
    """
    point = _require_one_model(runs)
    results = [one for run in runs for one in _results(run, asked)]
    if not results:
        raise UsageError("nothing was scored in these runs: no sample has references")

    def card() -> Iterator[bytes]:
        from huggingface_hub import ModelCardData

        found = ModelCardData(model_name=point.rsplit("/", 1)[-1] or point, eval_results=results)
        yield b"---\n" + as_yaml(found.to_dict()) + b"---\n"  # type: ignore[no-untyped-call]

    yield Output(out, card)


def _results(run: Run, asked: Asked) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    record, spec = run.record, run.record.spec
    task = facts.task_of(record)
    for metric, score in record.scores.items():
        if score.value is None or asked.metric not in (None, metric):
            continue
        yield EvalResult(
            task_type=_KIND,
            dataset_type=facts.hub_dataset(spec) or spec.task,
            dataset_name=task.title if task else spec.task,
            dataset_config=spec.variant if spec.variant != "default" else None,
            dataset_split=spec.split,
            dataset_revision=spec.source.revision,
            metric_type=metric,
            metric_name=_name(record, metric, score),
            metric_value=facts.points(score.value, number=score.number),
            metric_args=_about(record, score),
            source_url=asked.source_url,
            source_name=asked.source_name,
        )


def _name(record: RunRecord, metric: str, score: Score) -> str:
    """What a card shows beside the value: a bar to its use comes first."""
    unit = "" if score.number else ", percent"
    bars = "".join(f"{text.split(':')[0].split(' (')[0]}: " for text in facts.barred(record))
    return f"{bars}{metric}{unit} ({facts.cell(record.spec.checkpoint)}; n {score.n:,})"


def _about(record: RunRecord, score: Score) -> dict[str, object]:
    found: dict[str, object] = dict(facts.counts(score))
    for name in ("low", "high", "stderr"):
        value = getattr(score, name)
        if value is not None:
            found[name] = facts.points(value, number=score.number)
    found["interval"] = score.interval
    notes = facts.marks(record)
    return found | ({"notes": notes} if notes else {})


def _require_one_model(runs: Sequence[Run]) -> str:
    """The checkpoint of all runs: a card is of one. Raises UsageError."""
    there = sorted({run.record.spec.checkpoint.id for run in runs})
    if len(there) > 1:
        raise UsageError(
            f"these runs are of {len(there)} checkpoints, and a card is of one: --model {there[0]} chooses"
        )
    return there[0]


def _value(run: Run, metric: str) -> float:
    scores = run.record.scores
    if metric not in scores:
        raise UsageError(f"{run.place}: {unknown('metric', metric, scores)}")
    score = scores[metric]
    if score.value is None:
        raise UsageError(f"{run.place} has no {metric}: it was not scored")
    return facts.points(score.value, number=score.number)


def _classes() -> tuple[type[EvalResultEntry], Callable[[list[EvalResultEntry]], object]]:
    """The classes of .eval_results, which came to huggingface_hub later than model-index."""
    try:
        from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    except ImportError as error:
        raise UsageError(
            "this huggingface_hub knows no .eval_results; pip install -U huggingface_hub, "
            "or take --format model-index"
        ) from error
    return EvalResultEntry, eval_result_entries_to_yaml
