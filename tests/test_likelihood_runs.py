"""Mode likelihood through the whole path: asked, stored, resumed, taken over, rescored, shown, refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import docci_layout
import fakes
import mmmu_layout
import mmvp_layout
import pope_layout
import pytest
import scienceqa_layout

from pgbench import face
from pgbench.backends import Engine
from pgbench.backends.oracle import Oracle
from pgbench.check.gate import same_run
from pgbench.cli import invoke
from pgbench.errors import UsageError
from pgbench.keys import json_key
from pgbench.lines import dump, parse
from pgbench.metrics.likelihood import choice_metrics
from pgbench.paired.reading import read as evidence
from pgbench.records import RunRecord, SampleLine, essence
from pgbench.registry import load_task
from pgbench.runner import run
from pgbench.samples import read_lines
from pgbench.store import read_record
from pgbench.types import Continuation, LikelihoodMode, Prepared, Reply, Request, RunSpec, Sample

SPEC = replace(fakes.SPEC, mode="likelihood")
TEXTS = ("yes", "no")


def right(sample: Sample) -> tuple[int, ...]:
    return (TEXTS.index(str(sample.target)),)


def texts(*_given: object) -> tuple[str, ...]:
    return TEXTS


MODE = LikelihoodMode(texts, right, choice_metrics(0.5, right))
TASK = replace(fakes.TASK, metrics=MODE.metrics, modes=("generate", "likelihood"), likelihood=MODE)


class Scores(fakes.Fake):
    """Finds yes likelier."""

    def prepare(self, request: Request) -> Prepared:
        key = json_key({"id": request.sample_id, "scored": request.continuations})
        return replace(super().prepare(request), request_key=key)

    def score(self, batch: Sequence[Prepared], continuations: Sequence[Sequence[str]]) -> Sequence[Reply]:
        replies = []
        for one, given in zip(batch, continuations, strict=True):
            name = one.request.sample_id
            assert one.request.continuations == tuple(given)
            likely = tuple(Continuation(text, (-1.0 - place / 3, -0.1)) for place, text in enumerate(given))
            error = self.broken.get(name)
            replies.append(Reply("", error=error) if error else Reply("yes", n_prompt=9, likelihoods=likely))
        self.batches.append([one.request.sample_id for one in batch])
        return replies


def cell(backend: Any, spec: RunSpec = SPEC, count: int = 24) -> Any:
    samples = tuple(replace(one, options=TEXTS) for one in fakes.make_samples(count))
    task = TASK if spec.mode == "likelihood" else fakes.TASK
    return fakes.make_cell(samples, backend, task=task, spec=spec)


# Runner and store


def test_a_run_asks_for_likelihoods_and_never_generates(tmp_path: Path) -> None:
    class Dumb(Scores):
        def generate(self, batch: Sequence[Prepared]) -> Sequence[Reply]:
            raise AssertionError("nothing is generated")

    outcome = run(cell(Dumb(broken={"s005": "burnt"})), tmp_path)
    lines = list(read_lines(outcome.folder))
    assert "likelihood" in outcome.folder.name
    assert all(line.output == "yes" and line.tokens == 0 for line in lines if line.id != "s005")
    expected = (Continuation("yes", (-1.0, -0.1)), Continuation("no", (-1.0 - 1 / 3, -0.1)))
    assert [line.likelihoods for line in lines if line.id != "s005"] == [expected] * 23
    assert next(line for line in lines if line.id == "s005").likelihoods == ()
    score = outcome.record.scores["choice_accuracy_ll"]
    assert outcome.record.primary == "choice_accuracy_ll"
    truly = sum(number % 3 != 0 for number in range(24) if number != 5)
    assert (score.value, score.n, score.failed) == (truly / 24, 24, 1)


def test_a_killed_run_goes_on_to_the_same_record(tmp_path: Path) -> None:
    class Stops(Scores):
        def score(self, batch: Sequence[Prepared], continuations: Sequence[Sequence[str]]) -> Sequence[Reply]:
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().score(batch, continuations)

    whole = run(cell(Scores()), tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run(cell(Stops()), tmp_path / "b")
    again = Scores()
    resumed = run(cell(again), tmp_path / "b")
    assert fakes.result(resumed) == fakes.result(whole)
    assert 0 < sum(map(len, again.batches)) < 24 + 4


def test_modes_are_two_runs_with_two_keys(tmp_path: Path) -> None:
    scored = run(cell(Scores()), tmp_path)
    told = run(fakes.make_cell(fakes.make_samples(24), fakes.Fake()), tmp_path)
    assert scored.record.key != told.record.key
    assert not {*scored.record.scores} & {*told.record.scores}


def test_answers_are_taken_over_with_their_numbers_and_never_from_the_other_mode(tmp_path: Path) -> None:
    def reusable(backend: fakes.Fake, spec: RunSpec) -> Any:
        engine = Engine(fakes.POINT, lambda: backend, reusable=True)
        return replace(cell(backend, spec), engine=engine)

    run(reusable(Scores(), fakes.SPEC), tmp_path)
    first = run(reusable(Scores(), replace(SPEC, limit=12)), tmp_path)
    assert first.record.cost.reused == 0
    backend = Scores()
    second = run(reusable(backend, SPEC), tmp_path)
    assert second.record.cost.reused == 12
    alone = run(cell(Scores()), tmp_path / "alone")
    assert fakes.result(second) == fakes.result(alone)


LINE = SampleLine(
    *("q1", "what?", "0f", "", 0, 1, "yes", 0, 9, 0.5, True, {}, "yes"),
    likelihoods=(Continuation("yes", (-0.1, -1e-9)), Continuation("né\u2028", (-12.345678901234567,))),
)


def test_stored_numbers_are_read_back_to_the_bit() -> None:
    assert parse(dump(LINE)) == LINE
    bare = replace(LINE, likelihoods=())
    assert b"likelihoods" not in dump(bare), "lines of generated answers stay what they were"
    assert parse(dump(bare)) == bare


@pytest.mark.parametrize(
    "likelihoods",
    [
        *(1, "yes", [1], ["yes"], [["yes"]], [["yes", 1]], [["yes", ["1"]]], [[1, [1.0]]]),
        *(None, [["yes", [1.0], 2]], [["yes", [True]]], [["yes", [[1.0]]]], {"yes": [1.0]}),
    ],
)
def test_foreign_numbers_are_no_line(likelihoods: object) -> None:
    document = json.loads(dump(LINE)) | {"likelihoods": likelihoods}
    assert parse(json.dumps(document).encode() + b"\n") is None


def test_the_essence_of_generated_answers_has_no_likelihoods(tmp_path: Path) -> None:
    told = run(fakes.make_cell(fakes.make_samples(8), fakes.Fake()), tmp_path)
    scored = run(cell(Scores(), count=8), tmp_path)
    keys = [
        {*essence(one.record, read_lines(one.folder))["samples"][0]}  # type: ignore[index]
        for one in (told, scored)
    ]
    assert keys[1] - keys[0] == {"likelihoods"}


# Every task that has the mode, under an oracle: the right text is certain


def mmmu(folder: Path) -> Path:
    rows = [row for row in mmmu_layout.ROWS if row["image_1"] and row["answer"]]
    return mmmu_layout.parquet(folder, [row for row in rows if row["image_1"]["bytes"]])  # type: ignore[index]


BUILD: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "pope": ("files", pope_layout.original),
    "mmvp": ("files", lambda folder: mmvp_layout.original(folder, [mmvp_layout.row(n) for n in range(1, 9)])),
    "docci": ("files", docci_layout.original),
    "scienceqa": ("files", lambda folder: scienceqa_layout.original(folder, scienceqa_layout.PROBLEMS)),
    "mmmu": ("hub", mmmu),
}


def scored(name: str, tmp_path: Path, *more: str) -> tuple[RunRecord, Path]:
    source, build = BUILD[name]
    data = tmp_path / "data"
    if not data.exists():
        build(data)
    flags = ["--task", name, "--source", source, "--data", str(data), "--out", str(tmp_path / "out")]
    assert invoke(["run", *flags, "--mode", "likelihood", "--backend", "oracle", *more]) == 0
    (path,) = (tmp_path / "out").glob("*/*/record.json")
    record = read_record(path.parent)
    assert record is not None
    return record, path.parent


@pytest.mark.parametrize("name", BUILD)
def test_an_oracle_is_certain_of_the_right_text(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, folder = scored(name, tmp_path)
    for metric, score in record.scores.items():
        ideal = {"yes_probability_ll": pytest.approx(0.5)}.get(metric, 1.0)
        assert score.value == ideal, metric
    assert record.scores[record.primary].n > 1
    shown = capsys.readouterr().out
    assert "LIKELIHOODS of given texts: not comparable with scores of generated answers" in shown
    lines = list(read_lines(folder))
    if name == "docci":
        assert [len(line.likelihoods) for line in lines] == [1] * len(lines)
        assert {line.output for line in lines} == {""}, "nothing was answered"
    assert invoke(["show", str(folder), "--wrong", "1"]) == 0
    assert invoke(["rescore", str(folder), "--force", *(("--data", str(tmp_path / "data")))]) == 0


def test_open_questions_of_mmmu_are_in_no_count(tmp_path: Path) -> None:
    record, folder = scored("mmmu", tmp_path)
    lines = list(read_lines(folder))
    score = record.scores["choice_accuracy_ll"]
    assert score.n == sum(bool(line.likelihoods) for line in lines) < len(lines)


def test_continuations_are_what_the_tasks_print() -> None:
    """A perfect model's answer is among them, in the words that the generated score reads."""
    profile = fakes.POINT.profile
    choice = Sample("1", (), "?", "B", ("x", "y", "z"), fields={"options": "(a) x (b) y (c) z"})
    for name, expected in {
        "scienceqa": ("The answer is A.", "The answer is B.", "The answer is C."),
        "mmmu": ("A", "B", "C"),
    }.items():
        task = load_task(name)
        assert task.likelihood is not None
        found = task.likelihood.continuations(choice, profile, task.variants[0])
        assert found == expected
        assert found[task.likelihood.right(choice)[0]] == task.gold(choice)
    pair = Sample("1", (), "?", "b", ("Open", ""), fields={"options": "(a) Open (b)"})
    mmvp = load_task("mmvp")
    assert mmvp.likelihood is not None
    assert mmvp.likelihood.continuations(pair, profile, "plain") == ("Open", "(b)")
    assert mmvp.likelihood.continuations(pair, profile, "plain")[mmvp.likelihood.right(pair)[0]] == mmvp.gold(
        pair
    )


def test_shards_and_their_merge_are_one_run(tmp_path: Path) -> None:
    data = pope_layout.original(tmp_path / "data")
    flags = ["--task", "pope", "--source", "files", "--data", str(data), "--backend", "oracle"]
    flags += ["--mode", "likelihood"]
    assert invoke(["run", *flags, "--out", str(tmp_path / "whole")]) == 0
    for index in range(2):
        assert invoke(["run", *flags, "--out", str(tmp_path / "parts"), "--shard", f"{index}/2"]) == 0
    assert invoke(["merge", str(tmp_path / "parts"), "--data", str(data)]) == 0
    found = []
    for out in ("whole", "parts"):
        (path,) = (tmp_path / out).glob("*/*/record.json")
        record = read_record(path.parent)
        assert record is not None
        found.append(essence(record, read_lines(path.parent)))
    assert found[0] == found[1]


def test_what_asks_for_generated_answers_refuses_likelihoods(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = scored("docci", tmp_path)
    capsys.readouterr()
    assert invoke(["nes", "sheet", str(folder), "--out", str(tmp_path / "sheet")]) == 2
    assert "is a run of mode likelihood: it has no captions to be rated" in capsys.readouterr().err
    test = mmmu_layout.row("test_Accounting_1")
    rows = mmmu_layout.parquet(tmp_path / "test", [test], "test-00000-of-00001.parquet")
    flags = ["--task", "mmmu", "--data", str(rows), "--split", "test", "--backend", "oracle"]
    assert invoke(["run", *flags, "--mode", "likelihood", "--out", str(tmp_path / "mmmu")]) == 0
    (path,) = (tmp_path / "mmmu").glob("*/*/record.json")
    assert invoke(["submit", str(path.parent), "--data", str(rows), "--out", str(tmp_path / "s.json")]) == 2
    assert "submit a run of generated answers" in capsys.readouterr().err


# Pairing: the area under a curve has no sums to be paired by, the other metrics have


def two_of_pope(tmp_path: Path, *more: str) -> list[str]:
    """The folders of two runs that differ in their seed alone."""
    data = pope_layout.original(tmp_path / "data")
    flags = ["--task", "pope", "--source", "files", "--data", str(data), "--backend", "oracle"]
    for seed in ("0", "1"):
        out = ["--out", str(tmp_path / seed), "--seed", seed]
        assert invoke(["run", *flags, "--mode", "likelihood", *more, *out]) == 0
    return [str(next((tmp_path / seed / "pope").iterdir())) for seed in ("0", "1")]


def test_two_runs_are_paired_by_all_metrics_but_the_weighted_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = two_of_pope(tmp_path)
    kept = str(tmp_path / "baseline.json")
    capsys.readouterr()
    assert invoke(["compare", ours, theirs, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["comparisons"][0]["not_paired"] == ["auroc_ll"]
    assert invoke(["baseline", "save", ours, "--out", kept]) == 0
    for baseline in (ours, kept):
        assert invoke(["check", "--baseline", baseline, "--candidate", theirs]) == 0
    capsys.readouterr()
    assert invoke(["report", str(tmp_path), "--rows", "seed", "--delta", "seed=0", "--paired"]) == 0
    assert invoke(["report", str(tmp_path), "--rows", "seed", "--metric", "auroc_ll", "--paired"]) == 0
    assert invoke(["compare", ours, theirs, "--metric", "auroc_ll"]) == 2
    assert "cannot be paired: it is one number of the whole run" in capsys.readouterr().err


def test_a_run_of_the_weighted_metric_alone_is_never_called_old_and_never_passes_a_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = two_of_pope(tmp_path, "--metric", "auroc_ll")
    kept = str(tmp_path / "baseline.json")
    assert invoke(["baseline", "save", ours, "--out", kept]) == 0
    capsys.readouterr()
    for baseline in (ours, kept):
        assert invoke(["check", "--baseline", baseline, "--candidate", theirs]) == 3
        assert "one number of the whole run, which cannot be gated" in capsys.readouterr().out
    assert invoke(["compare", ours, theirs]) == 2
    assert "have no metric in common that can be paired" in capsys.readouterr().err
    record = read_record(Path(theirs))
    assert record is not None
    worse = replace(record.scores["auroc_ll"], value=0.5)
    twin = replace(evidence(theirs), record=replace(record, scores={"auroc_ll": worse}))
    assert same_run(evidence(theirs), evidence(theirs))
    assert not same_run(evidence(theirs), twin), "with no units to compare, the scores still differ"


# Rescoring


def test_a_rescoring_needs_no_model_and_refuses_other_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record, folder = scored("pope", tmp_path)
    arguments = ["rescore", str(folder), "--force", "--data", str(tmp_path / "data"), "--json"]
    capsys.readouterr()
    assert invoke(arguments) == 0
    (sidecar,) = folder.glob("rescored-*.json")
    found = json.loads(sidecar.read_text())["scores"]
    assert {name: one["value"] for name, one in found.items()} == {
        name: one.value for name, one in record.scores.items()
    }
    import pgbench_tasks.pope as pope  # type: ignore[import-untyped, unused-ignore]

    assert pope.TASK.likelihood is not None
    other = replace(pope.TASK.likelihood, continuations=lambda *_: ("Yes", "No"))
    monkeypatch.setattr(pope, "TASK", replace(pope.TASK, likelihood=other))
    capsys.readouterr()
    assert invoke(arguments) != 0
    assert "otherwise now; run again" in "".join(capsys.readouterr())


# Refusals and the other doors


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--task", "vqav2", "--mode", "likelihood"], "unknown mode of vqav2 'likelihood'"),
        (["--task", "pope", "--mode", "likely"], "unknown mode 'likely'; did you mean likelihood"),
        (["--task", "mmmu", "--mode", "likelihood", "--official-seed", "42"], "leave out --official-seed"),
        (["--task", "pope", "--mode", "likelihood", "--metric", "accuracy"], "unknown metric of pope"),
    ],
)
def test_what_does_not_go_together_is_told_in_one_line(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert invoke(["run", *flags, "--backend", "oracle", "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_answers_made_elsewhere_have_no_likelihoods(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = tmp_path / "answers.json"
    data = pope_layout.original(tmp_path / "data")
    answers.write_text(json.dumps({"random-1": "yes"}))
    flags = ["--task", "pope", "--source", "files", "--data", str(data), "--predictions", str(answers)]
    out = ["--out", str(tmp_path / "out")]
    assert invoke(["run", *flags, "--backend", "replay", "--mode", "likelihood", *out]) == 2
    assert "the replay backend has no likelihoods; use --mode generate" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*/*/record.json"))


def test_python_and_sweep_files_take_the_mode(tmp_path: Path) -> None:
    data = pope_layout.original(tmp_path / "data")
    common = {"backend": "oracle", "source": "files", "data": str(data)}
    ran = face.run("pope", mode="likelihood", out=tmp_path / "a", **common)  # type: ignore[arg-type]
    assert ran.record.spec.mode == "likelihood"
    recipe = {
        "defaults": common,
        "tasks": ["pope", {"task": "pope", "mode": "likelihood"}],
    }
    swept = face.sweep(recipe, out=tmp_path / "b")
    modes = [told.spec.mode for told in swept.cells if told.spec]
    assert sorted(modes) == ["generate", "likelihood"]
    assert swept.whole
    with pytest.raises(UsageError, match="mode: got 'maybe'; expected generate"):
        face.run("pope", mode="maybe", **common)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="unknown mode of vqav2 'likelihood'"):
        face.sweep({"defaults": common, "tasks": [{"task": "vqav2", "mode": "likelihood"}]})


def test_a_sweep_table_names_the_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pope_layout.original(tmp_path / "data")
    flags = ["--backend", "oracle", "--source", "files", "--data", str(data), "--out", str(tmp_path / "out")]
    assert invoke(["sweep", "--task", "pope", *flags, "--mode", "likelihood"]) == 0
    assert "pope v1 test (likelihood)" in capsys.readouterr().out


def test_an_oracle_without_a_reference_is_certain_of_nothing() -> None:
    asked = Prepared(Request("1", (), "?", 4, continuations=TEXTS), None, 0, "", "")
    (reply,) = Oracle("oracle").score([asked], [TEXTS])
    assert {one.logprobs[0] for one in reply.likelihoods} == {-100.0}
