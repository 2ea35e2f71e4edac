"""Results JSON with the names that EleutherAI's lm-evaluation-harness writes, for programs that read it.

The names are those of `lm_eval/result_schema.py`, 0.4.13. Fractions, as there; `,none` is its "no filter".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from pgbench.errors import UsageError
from pgbench.exports import facts
from pgbench.exports.asked import Asked
from pgbench.exports.gathering import Run
from pgbench.exports.writing import Output, as_json
from pgbench.records import RunRecord
from pgbench.types import Checkpoint


def results(runs: Sequence[Run], out: Path, asked: Asked) -> Iterator[Output]:
    """A file for each cell of a checkpoint, all its tasks in it. `out` ending in .json is the file of one
    cell; else it is a folder, where the harness's own names are used: MODEL/results_DATE.json.

    Raises UsageError for several cells and one file, and for two runs that would have the same name.
    """
    cells: dict[Checkpoint, list[Run]] = {}
    for run in runs:
        cells.setdefault(run.record.spec.checkpoint, []).append(run)
    if out.suffix == ".json" and len(cells) > 1:
        raise UsageError(
            f"these runs are of {len(cells)} cells (checkpoint, resolution, level), and a results file is of "
            "one; give --out a folder"
        )
    for members in cells.values():
        _names(members)  # refused before anything is written
    for point, members in cells.items():
        path = out if out.suffix == ".json" else out / _file(point, members, len(cells) > 1)
        yield Output(path, partial(_pieces, point, members))


def _pieces(point: Checkpoint, members: Sequence[Run]) -> Iterator[bytes]:
    yield as_json(_document(point, members), indent=2)


def _file(point: Checkpoint, members: Sequence[Run], several: bool) -> str:
    """The harness's file name. Its date alone would not tell apart cells that ended in the same second."""
    ended = max(run.record.finished for run in members).replace(":", "-")
    level = (
        f"_{point.resolution}px_{point.quant if point.quant != 'none' else point.dtype}" if several else ""
    )
    tail = f"_{_sanitized(members[0].record.key[:8])}" if several else ""
    return f"{_sanitized(point.id)}/results_{_sanitized(ended)}{level}{tail}.json"


def _sanitized(name: str) -> str:
    """As `lm_eval.utils.sanitize_model_name`; what else has no place in a file name goes as well."""
    kept = re.sub(r"[\"<>:/\|\\?\*\[\]]+", "__", name)
    return re.sub(r"[^\w.+-]+", "_", kept, flags=re.ASCII).lstrip(".")[:120] or "_"


def _document(point: Checkpoint, runs: Sequence[Run]) -> dict[str, object]:
    named = dict(zip(_names(runs), (run.record for run in runs), strict=True))
    first = next(iter(named.values()))
    known = {name: facts.directions(record) for name, record in named.items()}
    return {
        "results": {name: _metrics(name, record) for name, record in named.items()},
        "group_subtasks": {name: [] for name in named},
        "configs": {name: _config(record) for name, record in named.items()},
        "versions": {name: record.spec.version for name, record in named.items()},
        "n-shot": dict.fromkeys(named, 0),
        "higher_is_better": {name: _better(record, known[name]) for name, record in named.items()},
        "n-samples": {
            name: {"original": record.data.published or record.data.available, "effective": _scored(record)}
            for name, record in named.items()
        },
        "config": _model(point, first),
        "date": min(facts.epoch(record.started) for record in named.values()),
        "transformers_version": first.stack.versions.get("transformers"),
        "pgbench_version": first.stack.versions.get("pgbench"),
        "model_source": point.backend,
        "model_name": point.id,
        "model_name_sanitized": _sanitized(point.id),
        "total_evaluation_time_seconds": str(round(sum(map(_seconds, named.values())), 3)),
    }


def _names(runs: Sequence[Run]) -> list[str]:
    """A task's name; with its split and variant where two runs are of one task. Raises UsageError."""
    plain = [run.record.spec.task for run in runs]
    often = Counter(plain)
    specs = [run.record.spec for run in runs]
    names = [s.task if often[s.task] == 1 else f"{s.task}_{s.split}_{s.variant}_{s.mode}" for s in specs]
    for name, count in Counter(names).items():
        if count > 1:
            both = ", ".join(run.place for run, other in zip(runs, names, strict=True) if other == name)
            raise UsageError(f"{both} would both be {name!r} in one results file; export them apart")
    return names


def _metrics(name: str, record: RunRecord) -> dict[str, object]:
    """Undefined scores are left out: the harness has no word for them."""
    found: dict[str, object] = {"name": name, "alias": name, "sample_len": _scored(record)}
    for metric, score in record.scores.items():
        if score.value is not None:
            found[f"{metric},none"] = score.value
            found[f"{metric}_stderr,none"] = "N/A" if score.stderr is None else score.stderr
    return found


def _scored(record: RunRecord) -> int:
    return record.scores[record.primary].n


def _better(record: RunRecord, known: Mapping[str, str | None]) -> dict[str, bool | None]:
    ways = {"up": True, "down": False}
    return {metric: ways.get(known.get(metric) or "") for metric in record.scores}


def _config(record: RunRecord) -> dict[str, object]:
    spec = record.spec
    revision = {"revision": spec.source.revision} if spec.source.revision else {}
    return {
        "task": spec.task,
        "dataset_path": spec.source.id,
        "dataset_kwargs": revision,
        "test_split": spec.split,
        "num_fewshot": 0,
        "metric_list": [{"metric": metric} for metric in record.scores],
        "output_type": "generate_until" if spec.mode == "generate" else "loglikelihood",
        "generation_kwargs": {"do_sample": False, "max_gen_toks": spec.max_new_tokens},
        "repeats": 1,
        "metadata": {
            "version": spec.version,
            "pgbench": facts.conditions(record),
            "scores": {metric: _about(record, metric) for metric in record.scores},
            "notes": facts.marks(record),
        },
    }


def _about(record: RunRecord, metric: str) -> dict[str, object]:
    score = record.scores[metric]
    return {**facts.counts(score), "low": score.low, "high": score.high, "interval": score.interval}


def _model(point: Checkpoint, record: RunRecord) -> dict[str, object]:
    arguments = {
        "pretrained": point.id,
        "revision": point.revision,
        "dtype": point.dtype,
        "peft": point.adapter,
    }
    own = {"quant": point.quant, "resolution": point.resolution, "protocol": point.protocol}
    return {
        "model": point.backend,
        "model_args": {name: value for name, value in (arguments | own).items() if value is not None},
        "model_dtype": f"torch.{point.dtype}",
        "model_revision": point.revision or "main",
        "model_sha": point.revision or "",
        "batch_size": str(record.spec.batch),
        "batch_sizes": [],
        "device": record.stack.device,
        "use_cache": None,
        "limit": record.spec.limit,
        "bootstrap_iters": 0,
        "gen_kwargs": None,
        "random_seed": record.spec.seed,
    }


def _seconds(record: RunRecord) -> float:
    return facts.epoch(record.finished) - facts.epoch(record.started)
