"""Documents of Every Eval Ever, schema 0.3.0 (github.com/evaleval/every_eval_ever), one a run. Fractions.

They lie as in its datastore: data/COLLECTION/DEVELOPER/MODEL/UUID.json, with UUID_samples.jsonl beside it.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pgbench.errors import UsageError, unknown
from pgbench.exports import facts, instances
from pgbench.exports.asked import RELATIONSHIPS, Asked
from pgbench.exports.gathering import Run
from pgbench.exports.writing import Output, as_json
from pgbench.records import RunRecord, Score
from pgbench.specs import file_name

SCHEMA = "0.3.0"
_METHODS = {"clustered t": "analytic", "bootstrap": "bootstrap", "wilson": "analytic"}


def documents(runs: Sequence[Run], out: Path, asked: Asked) -> Iterator[Output]:
    """`out` is a folder. The lines of the samples are written first: the document holds their checksum.

    Raises UsageError where it is not said who ran the evaluation, and for a run in which nothing was scored.
    """
    if not asked.organization:
        raise UsageError("Every Eval Ever wants to know who ran this evaluation: --organization NAME")
    if asked.relationship not in RELATIONSHIPS:
        raise UsageError(unknown("relationship to the model", asked.relationship, RELATIONSHIPS))
    for run in runs:
        if all(score.value is None for score in run.record.scores.values()):
            raise UsageError(f"{run.place} was not scored: no sample has references")
        yield from _of_run(run, out, asked)


def _of_run(run: Run, out: Path, asked: Asked) -> Iterator[Output]:
    record = run.record
    name = _uuid(record)
    place = Path("data", *_directory(record))
    lines = None
    if asked.samples and instances.there(run.folder, record):
        lines = instances.Lines(run.folder, record, evaluation_id(record), model_id(record))
        samples = place / f"{name}_samples.jsonl"
        yield Output(out / samples, lines.pieces)
        yield Output(
            out / place / f"{name}.json", lambda: [_bytes(record, asked, lines.about(samples.as_posix()))]
        )
    else:
        yield Output(out / place / f"{name}.json", lambda: [_bytes(record, asked, None)])


def evaluation_id(record: RunRecord) -> str:
    """As the schema asks: name/model/timestamp. The run's key tells apart cells that ended in one second."""
    return f"{record.spec.task}/{model_id(record)}/{_stamp(record)}-{record.key[:8]}"


def model_id(record: RunRecord) -> str:
    """The checkpoint as organization/name; a folder's name has no organization, and none is made up."""
    point = record.spec.checkpoint.id
    return point if "/" in point else f"unknown/{point}"


def _stamp(record: RunRecord) -> str:
    """Seconds since 1970, from the record: the same run gives the same file whenever it is exported."""
    return str(int(facts.epoch(record.finished)))


def _uuid(record: RunRecord) -> str:
    """A version 4 UUID, which the datastore's file names are, made of the run's key and end."""
    digest = hashlib.sha256(f"{record.key} {record.finished}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def _directory(record: RunRecord) -> tuple[str, str, str]:
    developer, _, model = model_id(record).rpartition("/")
    return file_name(record.spec.task), file_name(developer), file_name(model)


def _bytes(record: RunRecord, asked: Asked, samples: Mapping[str, object] | None) -> bytes:
    document: dict[str, object] = {
        "schema_version": SCHEMA,
        "evaluation_id": evaluation_id(record),
        "evaluation_timestamp": record.finished,
        "retrieved_timestamp": _stamp(record),
        "source_metadata": _source(asked),
        "eval_library": {"name": "pgbench", "version": record.stack.versions.get("pgbench", "unknown")},
        "model_info": _model(record),
        "evaluation_results": list(_results(record)),
    }
    if samples is not None:
        document["detailed_evaluation_results"] = dict(samples)
    return as_json(document, indent=1)


def _source(asked: Asked) -> dict[str, object]:
    named = {"source_name": asked.source_name, "source_organization_url": asked.source_url}
    return {name: value for name, value in named.items() if value} | {
        "source_type": "evaluation_run",
        "source_organization_name": asked.organization,
        "evaluator_relationship": asked.relationship,
    }


def _model(record: RunRecord) -> dict[str, object]:
    versions = record.stack.versions
    own = {name: value for name, value in facts.conditions(record).items() if name != "notes"}
    hub = "/" in record.spec.checkpoint.id
    return {
        "name": record.spec.checkpoint.id,
        "id": model_id(record),
        "inference_engine": {"name": "transformers", "version": versions.get("transformers", "unknown")},
        "additional_details": {
            **own,
            "deployment_type": "self_deployed" if record.spec.checkpoint.backend != "replay" else "unknown",
            "model_availability": "open_weights" if hub else "unknown",
        },
    }


def _results(record: RunRecord) -> Iterator[dict[str, object]]:
    """All metrics, then each breakdown of them; undefined scores are left out."""
    known = facts.directions(record)
    for metric, score in record.scores.items():
        if score.value is not None:
            yield _result(record, metric, score, known.get(metric), metric, record.spec.task)
    for group, values in record.groups.items():
        for value, scores in values.items():
            for metric, score in scores.items():
                if score.value is not None:
                    which = f"{group}={value}"
                    name = f"{record.spec.task} [{which}]"
                    yield _result(record, metric, score, known.get(metric), f"{metric}[{which}]", name)


def _result(
    record: RunRecord, metric: str, score: Score, direction: str | None, identity: str, name: str
) -> dict[str, object]:
    return {
        "evaluation_result_id": identity,
        "evaluation_name": name,
        "source_data": _data(record),
        "evaluation_timestamp": record.finished,
        "metric_config": _metric(record, metric, score, direction),
        "score_details": _score(record, score),
        "generation_config": {
            "generation_args": {"temperature": 0.0, "max_tokens": record.spec.max_new_tokens},
            "additional_details": {
                "decoding": "greedy" if record.spec.mode == "generate" else record.spec.mode
            },
        },
    }


def _data(record: RunRecord) -> dict[str, object]:
    spec, data = record.spec, record.data
    about = {"digest": data.digest, "source": spec.source.name, "split": spec.split, "id": spec.source.id}
    if revision := spec.source.revision:
        about["revision"] = revision
    named: dict[str, object] = {"dataset_name": spec.task, "additional_details": about}
    if hub := facts.hub_dataset(spec):
        place = {"source_type": "hf_dataset", "hf_repo": hub, "hf_split": spec.split}
        return named | place | {"samples_number": data.available}
    return named | {"source_type": "other"}


def _metric(record: RunRecord, metric: str, score: Score, direction: str | None) -> dict[str, object]:
    low, high = ("-Infinity", "Infinity") if score.number else (0.0, 1.0)
    return {
        "metric_id": f"{record.spec.task}.{metric}",
        "metric_name": metric,
        "metric_kind": metric,
        "metric_unit": "number" if score.number else "proportion",
        "lower_is_better": direction == "down",
        "score_type": "continuous",
        "min_score": low,
        "max_score": high,
        "additional_details": {
            "better": direction or "neither, or not known",
            "primary": str(metric == record.primary),
        },
    }


def _score(record: RunRecord, score: Score) -> dict[str, object]:
    notes = facts.marks(record)
    details = {name: str(value) for name, value in facts.counts(score).items()}
    uncertainty: dict[str, object] = {"num_samples": score.n}
    method = f"{score.interval}, by cluster"
    if score.stderr is not None:
        uncertainty["standard_error"] = {
            "value": score.stderr,
            "method": _METHODS.get(score.interval, method),
        }
    if score.low is not None and score.high is not None:
        bounds = {"lower": score.low, "upper": score.high}
        uncertainty["confidence_interval"] = {**bounds, "confidence_level": 0.95, "method": method}
    return {
        "score": score.value,
        "details": details | ({"notes": "; ".join(notes)} if notes else {}),
        "uncertainty": uncertainty,
    }
