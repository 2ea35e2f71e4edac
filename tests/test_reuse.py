"""Answers of other cells: taken over where nothing differs that can move an answer, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from fakes import ACCURACY, PAIRS, POINT, SPEC, TASK, Fake, make_cell, make_samples, result

from pgbench import runner
from pgbench.backends import Engine, identity
from pgbench.batch import Cell
from pgbench.errors import RunStopped, SampleError
from pgbench.keys import image_key
from pgbench.records import Adaptation, Quantization, SampleLine, Stack, Verdict
from pgbench.report.table import of_record
from pgbench.samples import SAMPLES, read_lines
from pgbench.types import IMAGE_RULE, Checkpoint, Image, Prepared, Profile, Request, RunSpec, Sample, Task

LIBRARIES = ("torch", "transformers", "tokenizers", "bitsandbytes", "accelerate", "pillow", "numpy")
OTHERS = ("python", "pgbench", "pysbd", "sacrebleu")
STACK = Stack(
    "fake",
    dict.fromkeys((*LIBRARIES, *OTHERS, "pgbench code"), "1"),
    device="cpu",
    threads=1,
    matmul_precision="highest",
    attention={"text": "eager", "vision": "sdpa"},
    quantization=Quantization("none"),
    numerics={"cpu_capability": "AVX512"},
)
SIMPLE = replace(TASK, metrics=(ACCURACY,))
FIRST, ALL = 16, 24  # samples of the cell that was there before, and of the one that follows


@pytest.fixture(autouse=True)
def any_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stacks below name versions that are not installed."""
    monkeypatch.setattr("pgbench.concluding.JUDGES", ())


@dataclass
class Keyed(Fake):
    """Answers what its requests' keys say, which name what the real engine's name."""

    point: Checkpoint = POINT
    stack: Stack = STACK
    rule: str = IMAGE_RULE
    decoding: tuple[str, ...] = ("greedy",)

    def describe(self) -> Stack:
        return self.stack

    def prepare(self, request: Request) -> Prepared:
        if request.sample_id in self.refused:
            raise SampleError(self.refused[request.sample_id])
        answerer = identity.answering(asdict(self.point), asdict(self.stack))
        picture = image_key([image.read() for image in request.images])
        decoding = {"how": self.decoding, "new": request.max_new_tokens}
        way = identity.way_key(answerer, decoding, self.rule)
        key = identity.request_key(way, list(request.prompt.encode()), picture)
        return Prepared(request, None, 9, picture, key)

    @property
    def generated(self) -> list[str]:
        """Ids that were asked for, the warm-up left out."""
        return [name for batch in self.batches[1:] for name in batch]


@dataclass(frozen=True)
class Setting:
    """One cell, with all that a test may change."""

    point: Checkpoint = POINT
    stack: Stack = STACK
    samples: Sequence[Sample] = make_samples(ALL)
    spec: RunSpec = SPEC
    task: Task = SIMPLE
    task_digest: str = "d16e57"
    rule: str = IMAGE_RULE
    decoding: tuple[str, ...] = ("greedy",)

    def backend(self, **more: Any) -> Keyed:
        return Keyed(point=self.point, stack=self.stack, rule=self.rule, decoding=self.decoding, **more)

    def cell(self, backend: Fake, limit: int | None = None) -> Cell:
        spec = replace(self.spec, checkpoint=self.point, limit=limit)
        cell = make_cell(self.samples, backend, task=self.task, task_digest=self.task_digest, spec=spec)
        return replace(cell, engine=Engine(self.point, lambda: backend, reusable=True))


BASE = Setting()
BF16 = replace(BASE, point=replace(POINT, dtype="bfloat16"))
EXACTNESS = pytest.mark.parametrize("base", [BASE, BF16], ids=["float32", "bfloat16"])


def before(out: Path, setting: Setting = BASE, **more: Any) -> runner.Outcome:
    """The cell that was there before."""
    return runner.run(setting.cell(setting.backend(**more), limit=FIRST), out)


def after(out: Path, setting: Setting = BASE, **more: Any) -> tuple[runner.Outcome, Keyed]:
    """The cell that follows, and what was asked of its engine."""
    backend = setting.backend(**more)
    return runner.run(setting.cell(backend), out), backend


def lines(outcome: runner.Outcome) -> list[SampleLine]:
    return list(read_lines(outcome.folder))


def point(**changes: Any) -> Callable[[Setting], Setting]:
    return lambda setting: replace(setting, point=replace(setting.point, **changes))


def stack(**changes: Any) -> Callable[[Setting], Setting]:
    return lambda setting: replace(setting, stack=replace(setting.stack, **changes))


def version(name: str) -> Callable[[Setting], Setting]:
    return lambda setting: replace(
        setting, stack=replace(setting.stack, versions={**setting.stack.versions, name: "2"})
    )


def spec(**changes: Any) -> Callable[[Setting], Setting]:
    return lambda setting: replace(setting, spec=replace(setting.spec, **changes))


def task(**changes: Any) -> Callable[[Setting], Setting]:
    return lambda setting: replace(setting, task=replace(setting.task, **changes))


def samples(change: Callable[[Sample], Sample]) -> Callable[[Setting], Setting]:
    return lambda setting: replace(setting, samples=tuple(map(change, setting.samples)))


def repainted(sample: Sample) -> Sample:
    """One byte more in the encoded image."""
    return replace(sample, images=(Image("x.png", lambda: sample.images[0].read() + b"."),))


MOVING: Mapping[str, Callable[[Setting], Setting]] = {
    "checkpoint.revision": point(revision="f01"),
    "checkpoint.resolution": point(resolution=16),
    "checkpoint.dtype": point(dtype="float16"),
    "checkpoint.quant": point(quant="8bit"),
    "checkpoint.quant_scope": point(quant_scope="language"),
    "checkpoint.protocol": point(protocol="paper"),
    "checkpoint.pixels_from": point(pixels_from=4),
    "checkpoint.chat_attention": point(chat_attention="causal"),
    "checkpoint.adapter": point(adapter="lora"),
    "checkpoint.adapter_revision": point(adapter_revision="f02"),
    "checkpoint.adapter_mode": point(adapter_mode="attach"),
    "checkpoint.adapter_order": point(adapter_order="after"),
    "checkpoint.backend": point(backend="other"),
    "stack.backend": stack(backend="other"),
    "stack.device": stack(device="cuda"),
    "stack.device_name": stack(device_name="NVIDIA H100"),
    "stack.threads": stack(threads=2),
    "stack.matmul_precision": stack(matmul_precision="high"),
    "stack.attention": stack(attention={"text": "sdpa", "vision": "sdpa"}),
    "stack.quantization": stack(quantization=Quantization("none", compute_dtype="float16")),
    "stack.adapter": stack(adapter=Adaptation("attach", None, 2, (), 0)),
    "stack.placement": stack(placement={"": "disk"}),
    "stack.numerics": stack(numerics={"cpu_capability": "AVX2"}),
    **{f"stack.versions.{name}": version(name) for name in (*LIBRARIES, "pgbench code", "a new library")},
    "image": samples(repainted),
    "two images": samples(lambda one: replace(one, images=one.images * 2)),
    "prompt": task(prompt=lambda sample, profile, variant: f"{variant} {sample.question}."),
    "variant": lambda one: task(variants=("default", "other"))(spec(variant="other")(one)),
    "max_new_tokens": spec(max_new_tokens=33),
    "image rule": lambda setting: replace(setting, rule="no exif"),
    "decoding": lambda setting: replace(setting, decoding=("beams", "4")),
}
HARMLESS: Mapping[str, Callable[[Setting], Setting]] = {
    "nothing": lambda setting: setting,
    "checkpoint.id": point(id="a-copy"),
    "checkpoint.profile": point(profile=Profile("pt", "paligemma2")),
    "checkpoint.demo": point(demo=True),
    "checkpoint.attention": point(attention="eager"),  # asked for, and used anyway: the stack says what is
    "checkpoint.cache": point(cache="dynamic"),
    "stack.tried": stack(tried={"attention": "grouped of eager 2 ms, grouped 1 ms"}),
    "stack.weight_bytes": stack(weight_bytes=8),
    "stack.doctor": stack(doctor=Verdict((), 1.0)),
    **{f"stack.versions.{name}": version(name) for name in OTHERS},
    "task version": lambda one: spec(version=2)(task(version=2)(one)),
    "task source": lambda setting: replace(setting, task_digest="0" * 64),
    "metric": task(metrics=(ACCURACY, PAIRS)),
    "split": spec(split="test"),
    "sample ids": samples(lambda one: replace(one, id=f"new {one.id}")),
    "references": samples(lambda one: replace(one, target="maybe")),
    "groups": samples(lambda one: replace(one, groups={})),
}


@EXACTNESS
@pytest.mark.parametrize("name", MOVING)
def test_nothing_is_reused_across_what_can_move_an_answer(name: str, base: Setting, tmp_path: Path) -> None:
    before(tmp_path, base)
    changed = MOVING[name](base)
    outcome, backend = after(tmp_path, changed)
    assert len(backend.generated) == outcome.record.cost.generated == ALL
    assert outcome.record.cost.reused == 0
    assert not any(line.reused for line in lines(outcome))


@EXACTNESS
@pytest.mark.parametrize("name", HARMLESS)
def test_what_cannot_move_an_answer_is_no_hindrance(name: str, base: Setting, tmp_path: Path) -> None:
    first = before(tmp_path, base)
    changed = HARMLESS[name](base)
    outcome, backend = after(tmp_path, changed)
    assert len(backend.generated) == outcome.record.cost.generated == ALL - FIRST
    assert outcome.record.cost.reused == FIRST
    taken = [line for line in lines(outcome) if line.reused]
    assert {line.reused for line in taken} == {first.record.key}
    assert not {line.id for line in taken} & set(backend.generated)


def test_threads_count_on_a_cpu_alone(tmp_path: Path) -> None:
    first = stack(device="cuda", device_name="NVIDIA H100")(BASE)
    before(tmp_path, first)
    assert after(tmp_path, stack(threads=2)(first))[0].record.cost.reused == FIRST


def test_every_field_of_checkpoint_and_stack_is_judged() -> None:
    """A field that is added counts until it is listed as harmless; then it has to be listed here too."""
    judged = {
        name.split(".")[1] for name in (*MOVING, *HARMLESS) if name.startswith(("checkpoint.", "stack."))
    }
    assert {field.name for kind in (Checkpoint, Stack) for field in fields(kind)} == judged


@EXACTNESS
def test_the_record_is_what_it_would_have_been(base: Setting, tmp_path: Path) -> None:
    """Wrong answers, failures and references that are not there among them."""
    said = {"answer": lambda name: "yes" if int(name[1:]) % 5 else "no", "refused": {"s003": "no image"}}
    setting = replace(base, task=TASK, samples=make_samples(ALL, unscored=frozenset({4, 5})))
    before(tmp_path / "one", setting, **said)
    reusing, backend = after(tmp_path / "one", setting, **said)
    alone, _ = after(tmp_path / "two", setting, **said)
    assert reusing.record.cost.reused == FIRST - 1
    assert backend.generated
    assert result(reusing) == result(alone)
    assert [line.request_key for line in lines(reusing)] == [line.request_key for line in lines(alone)]


@EXACTNESS
def test_an_answer_names_the_run_that_generated_it(base: Setting, tmp_path: Path) -> None:
    import shutil

    first = before(tmp_path, base)
    second, _ = after(tmp_path, base)
    shutil.rmtree(first.folder)
    third, backend = after(tmp_path, spec(split="test")(base))
    assert backend.batches == []
    assert third.record.cost.reused == ALL
    assert [line.reused or second.record.key for line in lines(second)] == [
        line.reused for line in lines(third)
    ]


@EXACTNESS
def test_unfinished_runs_share_their_answers(base: Setting, tmp_path: Path) -> None:
    broken = base.backend(stop_at=3, error=RunStopped("killed"))  # the warm-up and two batches are answered
    with pytest.raises(RunStopped):
        runner.run(base.cell(broken, limit=FIRST), tmp_path)
    assert after(tmp_path, base)[0].record.cost.reused == 8


@EXACTNESS
def test_a_reusing_run_goes_on_where_it_stopped(base: Setting, tmp_path: Path) -> None:
    before(tmp_path, base)
    with pytest.raises(RunStopped):
        runner.run(base.cell(base.backend(stop_at=2, error=RunStopped("killed"))), tmp_path)
    outcome, backend = after(tmp_path, base)
    assert len(backend.generated) == 4
    alone, _ = after(tmp_path / "alone", base)
    assert result(outcome) == result(alone)
    assert (outcome.record.cost.reused, outcome.record.cost.generated) == (FIRST, ALL - FIRST)


def test_a_cell_takes_nothing_over_from_itself(tmp_path: Path) -> None:
    """Two samples of one request: each is generated, whether the run was stopped between them or not."""
    twice = samples(lambda one: replace(one, question="what?", images=make_samples(1)[0].images))(BASE)
    with pytest.raises(RunStopped):
        runner.run(twice.cell(twice.backend(stop_at=2, error=RunStopped("killed"))), tmp_path)
    assert after(tmp_path, twice)[0].record.cost.reused == 0


# The batch rule


@pytest.mark.parametrize(("base", "reused"), [(BASE, FIRST), (BF16, 0)], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("change", [spec(batch=3), spec(seed=1)], ids=["size", "order"])
def test_other_batches(
    change: Callable[[Setting], Setting], base: Setting, reused: int, tmp_path: Path
) -> None:
    """Below float32 what else is in a batch moves answers: size and order count."""
    before(tmp_path, base)
    assert after(tmp_path, change(base))[0].record.cost.reused == reused


@pytest.mark.parametrize(
    ("changes", "whole"),
    [
        ({"quant": "8bit"}, True),
        ({"quant": "4bit"}, True),
        ({"quant": "fp4"}, True),
        ({"dtype": "float16"}, True),
        ({"dtype": "bfloat16", "quant": "4bit"}, True),
        ({}, False),
    ],
    ids=str,
)
def test_only_plain_float32_is_free_of_batches(changes: dict[str, Any], whole: bool, tmp_path: Path) -> None:
    base = point(**changes)(BASE)
    before(tmp_path, base)
    assert after(tmp_path, spec(batch=3)(base))[0].record.cost.reused == (0 if whole else FIRST)


@pytest.mark.parametrize(("base", "generated"), [(BASE, 1), (BF16, 4)], ids=["float32", "bfloat16"])
def test_one_request_that_changed(base: Setting, generated: int, tmp_path: Path) -> None:
    before(tmp_path, base)
    known = [line.id for line in lines(before(tmp_path / "again", base))]
    changed = samples(lambda one: repainted(one) if one.id == known[5] else one)(base)
    _, backend = after(tmp_path, changed)
    assert len(set(known) & set(backend.generated)) == generated
    assert known[5] in backend.generated


@pytest.mark.parametrize(("base", "generated"), [(BASE, 1), (BF16, 4)], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("how", ["broken", "not finite"])
def test_a_failed_answer_is_given_again(how: str, base: Setting, generated: int, tmp_path: Path) -> None:
    known = [line.id for line in lines(before(tmp_path / "again", base))]
    if how == "broken":
        before(tmp_path, base, broken={known[5]: "no answer"})
    else:
        edited(before(tmp_path, base), 5, finite=False)
    _, backend = after(tmp_path, base)
    assert len(set(known) & set(backend.generated)) == generated
    assert known[5] in backend.generated


def test_a_request_that_cannot_be_prepared_is_in_no_batch(tmp_path: Path) -> None:
    """A batch of four of which three were asked is another one than the four."""
    known = [line.id for line in lines(before(tmp_path / "again", BF16))]
    before(tmp_path, BF16, refused={known[5]: "no image"})
    _, backend = after(tmp_path, BF16)
    assert set(known) & set(backend.generated) == set(known[4:8])


# What lies in other folders


def edited(outcome: runner.Outcome, number: int, **changes: object) -> None:
    """Change fields of one stored line."""
    path = outcome.folder / SAMPLES
    stored = path.read_text().splitlines()
    stored[number] = json.dumps(json.loads(stored[number]) | changes, separators=(",", ":"))
    path.write_text("".join(f"{line}\n" for line in stored))


@pytest.mark.parametrize(("base", "generated"), [(BASE, 1), (BF16, 4)], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    "changes",
    [
        {"request_key": "0" * 64},
        {"request_key": ""},
        {"image": "0" * 64},
        {"n_prompt": 10},
        {"tokens": 33},
        {"tokens": -1},
        {"tokens": "3"},
        {"tokens": True},
        {"finite": None},
        {"error": "no answer"},
        {"output": 7},
        {"seconds": "long"},
        {"stats": []},
        {"reused": "../../elsewhere"},
        {"reused": 7},
        {"strange": 1},
    ],
    ids=str,
)
def test_a_line_that_was_tampered_with_is_left_alone(
    changes: dict[str, object], base: Setting, generated: int, tmp_path: Path
) -> None:
    first = before(tmp_path, base)
    stored = lines(first)
    edited(first, 5, **changes)
    outcome, backend = after(tmp_path, base)
    assert len({line.id for line in stored} & set(backend.generated)) == generated
    assert stored[5].id in backend.generated
    assert outcome.record.cost.reused == FIRST - generated


@pytest.mark.parametrize("change", [{"batch_size": 10**9}, {"batch_size": "4"}, {"batch": 9}], ids=str)
def test_batches_that_were_tampered_with_are_left_alone(change: dict[str, object], tmp_path: Path) -> None:
    edited(before(tmp_path, BF16), 5, **change)
    outcome, _ = after(tmp_path, BF16)
    assert not {line.batch for line in lines(outcome) if line.reused} & {1}


def test_a_torn_line_is_left_alone(tmp_path: Path) -> None:
    path = before(tmp_path).folder / SAMPLES
    path.write_bytes(path.read_bytes()[:-3])
    assert after(tmp_path)[0].record.cost.reused == FIRST - 1


def test_what_another_process_cuts_off_meanwhile_is_not_taken(tmp_path: Path) -> None:
    """The index is older than the answers: they are looked at when they are taken."""
    from pgbench import reuse

    first = before(tmp_path)
    setting, backend = BASE, BASE.backend()
    cell = setting.cell(backend)
    known = reuse.known(cell.spec, runner.stack_of(cell, backend), tmp_path / "fake" / "own")
    asked = [
        backend.prepare(Request("x", one.images, f"default {one.question}", 32)) for one in setting.samples
    ]
    assert len(known) == FIRST
    assert sum(one is not None for one in known.given(asked)) == FIRST
    edited(first, 5, request_key="0" * 64)
    assert sum(one is not None for one in known.given(asked)) == FIRST - 1
    path = first.folder / SAMPLES
    path.write_bytes(path.read_bytes()[40:])
    assert known.given(asked) == [None] * ALL
    path.unlink()
    assert known.given(asked) == [None] * ALL


def test_a_batch_is_taken_whole_in_order_or_not_at_all(tmp_path: Path) -> None:
    from pgbench import reuse

    first = before(tmp_path, BF16)
    backend = BF16.backend()
    cell = BF16.cell(backend)
    known = reuse.known(cell.spec, runner.stack_of(cell, backend), tmp_path / "fake" / "own")
    batch = [
        Prepared(Request(line.id, (), line.prompt, 32), None, 9, line.image, line.request_key)
        for line in lines(first)[4:8]
    ]
    assert None not in known.given(batch)
    for other in (batch[::-1], batch[:3], [*batch, batch[0]], [*batch[:3], batch[0]]):
        assert known.given(other) == [None] * len(other)
    edited(first, 7, request_key="")  # meanwhile
    assert known.given(batch) == [None] * 4


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "stack.json").unlink(),
        lambda folder: (folder / "stack.json").write_text("[]"),
        lambda folder: (folder / "spec.json").write_text("{"),
        lambda folder: tiny.edit_json(folder / "spec.json", key="../.."),
        lambda folder: tiny.edit_json(folder / "spec.json", key=7),
        lambda folder: tiny.edit_json(folder / "spec.json", spec="all"),
    ],
    ids=["no stack", "other stack", "torn spec", "key", "number", "spec"],
)
def test_a_folder_that_does_not_say_what_it_is(spoil: Callable[[Path], object], tmp_path: Path) -> None:
    spoil(before(tmp_path).folder)
    assert after(tmp_path)[0].record.cost.reused == 0


def test_the_second_of_two_is_taken_where_the_first_is_broken(tmp_path: Path) -> None:
    first, second = before(tmp_path), before(tmp_path, spec(split="test")(BASE))
    assert second.record.cost.reused == FIRST
    edited(first, 5, n_prompt=10)
    edited(second, 6, n_prompt=10)
    assert after(tmp_path)[0].record.cost.reused == FIRST


# Who reuses


def test_no_reuse_generates_everything(tmp_path: Path) -> None:
    before(tmp_path)
    backend = BASE.backend()
    runner.run(replace(BASE.cell(backend), reuse=False), tmp_path)
    assert len(backend.generated) == ALL


def test_an_engine_that_does_not_offer_it_generates_everything(tmp_path: Path) -> None:
    before(tmp_path)
    backend = BASE.backend()
    cell = BASE.cell(backend)
    runner.run(replace(cell, engine=replace(cell.engine, reusable=False)), tmp_path)
    assert len(backend.generated) == ALL


def test_a_checkpoint_without_a_revision_shares_nothing(tmp_path: Path) -> None:
    nameless = point(revision=None)(BASE)
    before(tmp_path, nameless)
    assert after(tmp_path, nameless)[0].record.cost.reused == 0


def test_the_oracle_and_answers_from_elsewhere_are_never_reused() -> None:
    """Their answers come from references and files, which no request names."""
    from pgbench.backends import oracle, replay
    from pgbench.submissions.read import Answers
    from pgbench.types import ModelRequest

    made = replay.engine_of(Answers({}, "answers", "0" * 64), "paligemma", None)
    assert not oracle.engine(ModelRequest()).reusable
    assert not made.reusable


# Figures


def test_reused_answers_are_in_no_speed_figure(tmp_path: Path) -> None:
    """One answer of the second batch is generated: 15 of 16 are not, and that batch has no speed either."""
    first = before(tmp_path)
    edited(first, 5, n_prompt=10)
    outcome, _ = after(tmp_path)
    cost, stored = outcome.record.cost, lines(outcome)
    whole = [line for line in stored if line.batch >= 4]
    assert (cost.reused, cost.generated, len(whole)) == (FIRST - 1, 8, 8)
    assert "15 answers reused from other cells (in no speed figure)" in of_record(outcome.record).notes
    walls = {line.batch: line.seconds for line in whole}
    assert cost.samples_per_second == pytest.approx(8 / sum(walls.values()))
    assert cost.batch_seconds_p95 == max(walls.values())


def test_a_cell_that_generates_nothing_has_no_speed_and_no_warm_up(tmp_path: Path) -> None:
    after(tmp_path)
    outcome, backend = after(tmp_path, spec(split="test")(BASE))
    cost = outcome.record.cost
    assert backend.batches == []
    assert (cost.reused, cost.generated, cost.warmup_seconds) == (ALL, 0, 0.0)
    assert cost.samples_per_second is cost.batch_seconds_p50 is cost.batch_seconds_p95 is None
    assert "no sample was timed" in of_record(outcome.record).notes
    assert not any("reused" in note for note in of_record(before(tmp_path / "two").record).notes)


def test_the_warm_up_is_before_the_first_batch_that_is_generated(tmp_path: Path) -> None:
    before(tmp_path)
    outcome, backend = after(tmp_path)
    assert backend.batches[0] == backend.batches[1] == [line.id for line in lines(outcome)[16:20]]
    assert outcome.record.cost.warmup_seconds > 0


def test_an_index_is_compact_and_fast(tmp_path: Path) -> None:
    """28 bytes an answer; measured at 3.5 microseconds an answer to build, 26 to take one over."""
    import time

    from pgbench import reuse

    cell = BASE.cell(BASE.backend())
    first = before(tmp_path)
    path = first.folder / SAMPLES
    path.write_bytes(path.read_bytes() * 1250)
    start = time.process_time()
    known = reuse.known(cell.spec, runner.stack_of(cell, BASE.backend()), tmp_path / "fake" / "own")
    assert len(known) == 20_000
    assert time.process_time() - start < 1.0


# The real engine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny.load(tiny.checkpoint(tmp_path_factory.mktemp("model") / "mix-28", "paligemma2"))


def key_of(model: Any, request: Request | None = None, **stack: Any) -> str:
    """The key that a request would have on another stack, the weights being the same."""
    from pgbench.backends.paligemma.generate import PaliGemma

    changed = {name: value for name, value in stack.items() if name != "point"}
    loaded = replace(model._loaded, stack=replace(model._loaded.stack, **changed))
    backend = PaliGemma(stack.get("point", POINT), loaded) if "point" in stack else PaliGemma(POINT, loaded)
    return str(backend.prepare(request or tiny.question(0)).request_key)


@pytest.mark.parametrize(
    "changes",
    [
        {"point": replace(POINT, revision="f01")},
        {"point": replace(POINT, quant="4bit")},
        {"point": replace(POINT, adapter="lora")},
        {"device_name": "NVIDIA H100"},
        {"threads": 2},
        {"matmul_precision": "high"},
        {"attention": {"text": "sdpa"}},
        {"numerics": {}},
        {"quantization": None},
        {"versions": {}},
    ],
    ids=str,
)
def test_the_real_key_names_what_moves_an_answer(changes: dict[str, Any], model: Any) -> None:
    assert key_of(model, **changes) != key_of(model)


def test_the_real_key_leaves_out_what_only_names(model: Any) -> None:
    copy = replace(POINT, id="a-copy", profile=Profile("pt", "paligemma"), demo=True)
    named = {**model.describe().versions, "python": "4", "sacrebleu": "9", "task": "f00"}
    assert key_of(model, point=copy, versions=named, weight_bytes=1) == key_of(model)
    renamed = replace(tiny.question(0), sample_id="elsewhere", gold="x")
    assert key_of(model, renamed) == key_of(model)


@pytest.mark.parametrize(
    "setting",
    [
        *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "NVIDIA_TF32_OVERRIDE"),
        *("DNNL_DEFAULT_FPMATH_MODE", "TORCH_MKLDNN_MATMUL_MIN_SIZE", "OPENBLAS_CORETYPE"),
    ],
)
def test_the_real_key_names_settings_of_kernels(
    setting: str, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = key_of(model)
    monkeypatch.setenv(setting, "AVX2")
    assert key_of(model) != plain


def test_the_real_key_names_the_processor(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pgbench.backends.paligemma import machine

    plain = key_of(model)
    assert machine._processor().strip()
    monkeypatch.setattr(machine, "_processor", lambda: "another one")
    assert key_of(model) != plain


def test_the_real_key_names_what_decodes_pictures(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import features

    plain = key_of(model)
    monkeypatch.setattr(features, "version", lambda name: "another one")
    assert key_of(model) != plain


def test_the_real_key_names_the_build(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    plain = key_of(model)
    monkeypatch.setattr(torch.__config__, "show", lambda: "built with OpenBLAS")
    assert key_of(model) != plain


def test_the_real_key_names_the_image_rule(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = key_of(model)
    monkeypatch.setattr("pgbench.backends.paligemma.generate.IMAGE_RULE", "another rule")
    assert key_of(model) != plain


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_tiny_checkpoint_answers_less_and_the_same(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two limits, and in float32 other batches too; the third cell has its answers from no other."""
    from pgbench.backends.paligemma.generate import PaliGemma
    from pgbench.cli import invoke
    from pgbench.store import read_record

    asked: list[int] = []
    generate = PaliGemma.generate

    def counting(self: PaliGemma, batch: Sequence[Prepared]) -> Any:
        asked.append(len(batch))
        return generate(self, batch)

    def essence(out: str, *flags: str) -> tuple[Any, dict[str, Any]]:
        asked.clear()
        command = ["run", "--task", "textvqa", "--dtype", dtype, "--batch-size", "4", "--json"]
        assert invoke([*command, "--out", str(tmp_path / out), *flags]) == 0
        document = json.loads(capsys.readouterr().out)
        folder = Path(document["run"])
        record = read_record(folder)
        assert record is not None
        return result(runner.Outcome(record, folder, already_done=False)), document

    monkeypatch.setattr(PaliGemma, "generate", counting)
    essence("one", "--limit", "12")
    assert sum(asked) == 4 + 12
    reusing, document = essence("one", "--limit", "24")
    reused = document["record"]["cost"]["reused"]
    # the longest of 24 are asked first: below float32 only a batch that is the same by chance is taken over
    assert (reused == 12) if dtype == "float32" else (reused < 12 and reused % 4 == 0)
    assert sum(asked[1:]) == 24 - reused  # the first one warms up
    if reused:
        assert f"{reused} answers reused from other cells (in no speed figure)" in document["notes"]
    essence("two", "--limit", "12")
    alone, document = essence("two", "--limit", "24", "--no-reuse")
    assert sum(asked) == 4 + 24
    assert document["record"]["cost"]["reused"] == 0
    assert reusing == alone
    _, document = essence("one", "--limit", "24", "--batch-size", "8")
    assert document["record"]["cost"]["reused"] == (24 if dtype == "float32" else 0)
