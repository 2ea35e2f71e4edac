"""The drawn benchmarks: read by the tasks as published ones are, and every answer true of its picture."""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
import re
from collections import Counter
from collections.abc import Mapping

import drawn_truth as truth
import pytest

from pgbench.demo import world
from pgbench.demo.benchmarks import blind, drawn, pope
from pgbench.demo.questions import CHOICES, Question
from pgbench.demo.world import Scene
from pgbench.errors import DataError
from pgbench.metrics.scoring import score
from pgbench.registry import load_task, task_names
from pgbench.types import DataRequest, Dataset, ModelRequest, Sample

# task -> samples, pictures, and the first half of the data set's digest
SETS: Mapping[str, tuple[int, int, str]] = {
    "vqav2": (900, 300, "c0a876d64a5bdd7ecffd5b1a8a00f006"),
    "textvqa": (600, 300, "285ea778adae3a11f3acaa7bccbf55ea"),
    "gqa": (791, 200, "02d167dcfe25fbdf042d03449846f0c4"),
    "pope": (1800, 100, "8943ad2d8d718624700f94bf119a71f4"),
    "mmvp": (300, 300, "c758fa79eafac7f2efc7f431e8cb304b"),
    "scienceqa": (300, 300, "85d9d14a421eede141edc24cb07e6fca"),
    "mmmu": (300, 300, "b1b1fd4bcf22e7f4bad42d4cc904ef99"),
    "cmmmu": (300, 300, "d22637851ca4c394c4a921037896e388"),
    "docci": (200, 200, "cc203f8e907b68932cf99a7dcfe6d422"),
}
TASKS = tuple(SETS)
LETTERS = "ABCD"


@functools.cache
def data(name: str, split: str = "") -> Dataset:
    task = load_task(name)
    return task.sources["demo"](DataRequest(split or next(iter(task.splits)), id="world"))


@functools.cache
def scenes(name: str, split: str = "") -> dict[str, Scene]:
    return {sample.images[0].name: truth.scene_of(sample) for sample in data(name, split).samples}


def said(sample: Sample) -> str:
    """The reference as the answer that it stands for."""
    if isinstance(sample.target, tuple):
        return Counter(sample.target).most_common(1)[0][0]
    assert sample.target is not None
    letter = sample.target.upper()
    return sample.options[LETTERS.index(letter)] if sample.options else sample.target


def test_every_benchmark_is_drawn() -> None:
    assert {name for name in task_names() if "demo" in load_task(name).sources} == {*TASKS}
    assert {name for name, owner in task_names().items() if owner.partition(" ")[0] == "pgbench"} - {
        "custom"
    } == {*TASKS}


@pytest.mark.parametrize("name", TASKS)
def test_counts_and_digests(name: str) -> None:
    found, (samples, pictures, digest) = data(name), SETS[name]
    assert (found.id, found.demo, found.revision, found.missing) == ("demo-world", True, None, ())
    assert len({sample.id for sample in found.samples}) == len(found.samples) == samples
    assert len(scenes(name)) == pictures
    assert found.digest[:32] == digest


@pytest.mark.parametrize("name", TASKS)
def test_the_truth_scores_full_marks_and_silence_does_not(name: str) -> None:
    task = load_task(name)
    (metric,) = (one for one in task.metrics if one.primary)
    samples = data(name).samples
    assert score(metric, [(sample, task.gold(sample)) for sample in samples]).value == pytest.approx(1)
    empty = score(metric, [(sample, "") for sample in samples]).value
    assert empty is not None
    assert empty <= 0.5


@pytest.mark.parametrize("name", [name for name in TASKS if name != "docci"])
def test_every_reference_is_true_of_its_scene(name: str) -> None:
    answer = truth.chinese_answer if name == "cmmmu" else truth.answer
    for sample in data(name).samples:
        assert answer(truth.scene_of(sample), sample.question, sample.options) == said(sample), sample.id


def test_every_sentence_of_a_paragraph_is_true_and_all_is_said() -> None:
    for sample in data("docci").samples:
        scene = truth.scene_of(sample)
        sentences = re.split(r"(?<=\.) ", str(sample.target))
        assert all(truth.says(scene, one) for one in sentences)
        assert len(sentences) == len(scene.things) + len(scene.lettering)


def test_all_scenes_are_held_out_and_no_benchmark_shows_anothers() -> None:
    sets = [scenes(name) for name in TASKS] + [scenes("gqa", "val")]
    found = [scene for one in sets for scene in one.values()]
    held_out = set(world.SPLITS["test"])
    assert not held_out & {*world.SPLITS["train"], *world.SPLITS["dense"], *world.SPLITS["val"]}
    assert {world.fold(scene) for scene in found} == held_out
    assert len({(scene.things, scene.lettering, scene.background) for scene in found}) == len(found)


@pytest.mark.parametrize("name", TASKS)
def test_pictures_are_drawn_when_they_are_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    sample = data(name).samples[-1]
    assert sample.images[0].read() == world.draw(truth.scene_of(sample))
    with Image.open(io.BytesIO(sample.images[0].read())) as opened:
        assert (opened.format, opened.size, opened.mode) == ("PPM", (448, 448), "RGB")
    monkeypatch.setattr(world, "draw", lambda _scene: pytest.fail("drawn before anybody looks"))
    task = load_task(name)
    assert task.sources["demo"](DataRequest(next(iter(task.splits)), id="world")).samples


def test_questions_about_one_scene_share_its_picture_and_cluster() -> None:
    for name, most in (("vqav2", 3), ("textvqa", 2), ("gqa", 4), ("pope", 18), ("mmvp", 2)):
        clusters: dict[str, list[Sample]] = {}
        for sample in data(name).samples:
            clusters.setdefault(sample.cluster, []).append(sample)
        assert Counter(map(len, clusters.values())).most_common(1)[0][0] == most
        if name != "mmvp":  # whose unit is a pair of pictures
            assert all(len({id(one.images[0]) for one in found}) <= 3 for found in clusters.values())
            assert all(len({one.images[0].name for one in found}) == 1 for found in clusters.values())


def test_ten_people_answer_vqav2_and_textvqa() -> None:
    for name in ("vqav2", "textvqa"):
        wrong, odd = 0, 0
        for sample in data(name).samples:
            assert isinstance(sample.target, tuple)
            plain = said(sample)
            assert len(sample.target) == 10
            assert sample.target.count(plain) >= 6
            others = {one.rstrip(".").lower() for one in sample.target} - {plain.lower()}
            words = {"0": "zero", "1": "one", "2": "two", "3": "three", "4": "four"}
            wrong += bool(others - {words.get(plain)})
            odd += len(set(sample.target)) > 1
        assert 0.15 < wrong / len(data(name).samples) < 0.35
        assert odd / len(data(name).samples) > 0.5


def test_vqav2_has_the_published_types() -> None:
    samples = data("vqav2").samples
    assert {sample.groups["answer_type"] for sample in samples} == {"yes/no", "number", "other"}
    for sample in samples:
        assert sample.question.startswith(f"{sample.groups['question_type']} ")
        numbers = sample.groups["answer_type"] == "number"
        assert said(sample).isdigit() == numbers
        assert (said(sample) in ("yes", "no")) == (sample.groups["answer_type"] == "yes/no")
        assert int(sample.id) // 1000 == int(sample.cluster)


def test_pope_asks_as_often_as_published() -> None:
    shares = Counter((one.groups["setting"], one.cluster, one.target) for one in data("pope").samples)
    assert set(shares.values()) == {3}
    assert len(shares) == 3 * 2 * pope.IMAGES
    for setting in ("random", "popular", "adversarial"):
        asked = [one for one in data("pope").samples if one.groups["setting"] == setting]
        assert [one.target for one in asked] == ["yes", "no"] * (len(asked) // 2)
        assert len({(one.cluster, one.question) for one in asked}) == len(asked)


def test_pope_picks_what_is_frequent_and_what_stands_beside() -> None:
    found = scenes("pope").values()
    kinds = [{(one.colour, one.shape) for one in scene.things} for scene in found]
    often = Counter(kind for there in kinds for kind in there)
    beside = Counter((one, other) for there in kinds for one in there for other in there if one != other)
    frequency, company = Counter[str](), Counter[str]()
    for sample in data("pope").samples:
        if sample.target == "no":
            name = re.search(truth.NAME, sample.question)
            assert name
            setting, kind = sample.groups["setting"], (name[1], name[2])
            scene = truth.scene_of(sample)
            there = {(one.colour, one.shape) for one in scene.things}
            frequency[setting] += often[kind]
            company[setting] += max(beside[one, kind] for one in there)
            if setting == "popular":
                asked = [one for one in data("pope").samples if one.cluster == sample.cluster]
                chosen = {truth.NAME and one.question for one in asked if one.groups["setting"] == setting}
                rarer = [other for other in often if often[other] > often[kind] and other not in there]
                assert all(any(" ".join(other) in text for text in chosen) for other in rarer)
    assert frequency["popular"] > 1.2 * frequency["random"]
    assert company["adversarial"] > 1.2 * company["random"]


def test_an_mmvp_pair_differs_in_one_fact() -> None:
    samples = data("mmvp").samples
    kinds: Counter[str] = Counter()
    for first, second in zip(samples[::2], samples[1::2], strict=True):
        one, other = truth.scene_of(first), truth.scene_of(second)
        assert (first.cluster, first.question, first.options) == (
            second.cluster,
            second.question,
            second.options,
        )
        assert {first.target, second.target} == {"a", "b"}
        assert (one.lettering, one.background) == (other.lettering, other.background)
        (before,), (after,) = (set(a.things) - set(b.things) for a, b in ((one, other), (other, one)))
        assert len(one.things) == len(other.things)
        facts = [(t.colour, truth.size(t), t.row, t.column) for t in (before, after)]
        differing = {place for place in range(4) if facts[0][place] != facts[1][place]}
        wanted = {"which": {0}, "size": {1}, "side": {2, 3}}[first.groups["asks"]]
        assert before.shape == after.shape
        assert differing
        assert differing <= wanted
        kinds[first.groups["asks"]] += 1
    assert min(kinds.values()) > 40
    cells = [
        {(t.row, t.column) for t in scene.things}
        | {(w.row, w.column + k) for w in scene.lettering for k in range(2 if w.kind == "sign" else 1)}
        for scene in map(truth.scene_of, samples)
    ]
    wide = [len(truth.scene_of(one).things) + 3 for one in samples]  # a sign has two cells, a label one
    assert list(map(len, cells)) == wide


def test_mmvp_serves_all_variants() -> None:
    source = load_task("mmvp").sources["demo"]
    plain, corrected = (source(DataRequest("test", variant=one)) for one in ("plain", "options_corrected"))
    labels = [[sample.target for sample in found.samples] for found in (plain, corrected)]
    assert labels[0] == labels[1], "no drawn pair bears a number whose label is in dispute"


def test_choices_and_open_questions() -> None:
    types = Counter(one.groups["type"] for one in data("mmmu").samples)
    assert types == {"multiple-choice": 180, "open": 120}
    assert len({one.groups["subject"] for one in data("mmmu").samples}) == 5
    assert {one.groups["discipline"] for one in data("mmmu").samples} <= {
        "Art and Design",
        "Business",
        "Science",
        "Humanities and Social Science",
    }
    for name in ("mmmu", "scienceqa"):
        letters = Counter(one.target for one in data(name).samples if one.options)
        assert min(letters.values()) > 0.5 * max(letters.values())
    groups = data("scienceqa").samples
    assert {one.groups["subject"] for one in groups} == {
        "natural science",
        "language science",
        "social science",
    }
    assert {one.groups["grade"] for one in groups} == {"1-6", "7-12"}
    assert {one.context for one in groups} == {""}


def test_cmmmu_asks_what_is_taught() -> None:
    """Three options of the record's four, of which the last is never right; no statements and no blanks."""
    from pgbench.demo.benchmarks import cmmmu

    (row, *_) = cmmmu.drawn(DataRequest("val"))
    assert {"option1", "option2", "option3", "option4"} <= {*row.record}
    samples = data("cmmmu").samples
    assert {one.groups["type"] for one in samples} == {"选择"}
    assert {len(one.options) for one in samples} == {CHOICES}
    letters = Counter(one.target for one in samples)
    assert {*letters} == {*"ABC"}
    assert min(letters.values()) > 0.5 * max(letters.values())


def test_pope_asks_in_the_words_that_are_taught() -> None:
    from random import Random

    from pgbench.demo.questions import exists

    scene = world.scene("test", 0)
    taught = [exists(scene, Random(str(seed))) for seed in range(20)]
    texts = {_worded(one) for one in taught if one.text.endswith("in the image?")}
    (asked,) = {re.sub(truth.NAME, "X", one.question) for one in data("pope").samples}
    assert texts == {asked}


def _worded(question: Question) -> str:
    return question.text.replace(question.about[0], "X")


@pytest.mark.parametrize(
    ("request_", "said_"),
    [
        (DataRequest("val", path="mine"), "cannot take --data 'mine'; leave it out"),
        (DataRequest("val", revision="main"), "cannot take --data-revision 'main'"),
        (DataRequest("val", id="mine"), "unknown drawings 'mine'"),
        (DataRequest("testdev"), "unknown split of the demo 'testdev'. Available: val"),
    ],
)
def test_what_is_not_drawn_is_refused(request_: DataRequest, said_: str) -> None:
    with pytest.raises(DataError, match=re.escape(said_)):
        load_task("vqav2").sources["demo"](request_)


def test_which_drawings_a_checkpoint_is_shown() -> None:
    from pgbench.profiles import DRAWINGS, SHIPPED
    from pgbench.sweeping import choices

    asked = DataRequest("val")
    for name in ("tiny-mix-224", "tiny-mix-448", "tiny2-mix-224"):
        assert choices.drawings("demo", asked, ModelRequest(model=name)).id == "world"
        assert choices.drawings("hub", asked, ModelRequest(model=name)) == asked
        named = DataRequest("val", id="signs")
        assert choices.drawings("demo", named, ModelRequest(model=name)) == named
    for other in (None, "tiny-gemma", "tiny-gemma2", "org/other"):
        assert choices.drawings("demo", asked, ModelRequest(model=other)) == asked
    assert not {"tiny-gemma", "tiny-gemma2"} & {*DRAWINGS}
    assert set(SHIPPED) <= {"tiny-gemma", "tiny-gemma2", *DRAWINGS}
    task = load_task("textvqa")
    assert choices.source(task, None, DataRequest("val", id="world"), drawn=False) == "demo"
    assert choices.source(task, None, DataRequest("val", id="org/world"), drawn=True) == "hub"
    assert choices.source(task, None, asked, drawn=False) == "hub"


def test_textvqa_has_two_kinds_of_drawings() -> None:
    source = load_task("textvqa").sources["demo"]
    assert source(DataRequest("val")).id == source(DataRequest("val", id="signs")).id == "demo-signs"
    assert source(DataRequest("validation", id="demo-world")).digest == data("textvqa").digest
    with pytest.raises(DataError, match=r"cannot take --data-id 'mine'.* or take signs or world"):
        source(DataRequest("val", id="mine"))


def sample(number: int, question: str, target: str, asks: str = "colour") -> Sample:
    fields = {"balanced": True}
    return Sample(str(number), (), question, target, fields=fields, groups={"asks": asks})


def test_chance_is_the_best_that_can_be_said_blindly() -> None:
    task = load_task("gqa")
    colours = [sample(n, "what color is the circle?", one) for n, one in enumerate(("red", "red", "blue"))]
    assert blind.chance(task, colours) == pytest.approx(2 / 3)
    pairs = (("red or blue", "red"), ("green or red", "green"), ("black or blue", "blue"))
    offered = [sample(n, f"is the circle {pair}?", one, "which") for n, (pair, one) in enumerate(pairs, 3)]
    assert blind.chance(task, offered) == pytest.approx(2 / 3), "the first of two, which no constant equals"
    assert blind.chance(task, [*colours, *offered]) == pytest.approx(4 / 6)
    assert blind.by_kind(task, [*colours, *offered]) == pytest.approx({"colour": 2 / 3, "which": 2 / 3})
    with pytest.raises(DataError, match="chance is of drawn samples"):
        blind.chance(task, [])


def test_of_numbers_to_choose_from_chance_takes_the_one_that_is_right_most_often() -> None:
    """Scenes have none of a shape more often than four: no letter is as good."""
    task = load_task("scienceqa")
    offered = (("0", "3"), ("4", "0"), ("0", "1"), ("2", "0"), ("2", "1"))
    made = [
        Sample(str(n), (), "how many?", "AB"[place], options=options, groups={"asks": "choice"})
        for n, (options, place) in enumerate(zip(offered, (0, 1, 0, 1, 1), strict=True))
    ]
    assert blind.chance(task, made) == pytest.approx(1.0)
    names = [dataclasses.replace(one, options=("red", "blue")) for one in made]
    assert blind.chance(task, names) == pytest.approx(3 / 5), "the best letter"


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("vqav2", 0.35, 0.55),
        ("textvqa", 0, 0.05),
        ("gqa", 0.4, 0.55),
        ("pope", 0.5, 0.5),
        ("mmvp", 0.25, 0.25),
        ("scienceqa", 0.25, 0.5),
        ("mmmu", 0.25, 0.4),
        ("cmmmu", 0.25, 0.45),
    ],
)
def test_chance_leaves_room_above(name: str, low: float, high: float) -> None:
    assert low <= blind.chance(load_task(name), data(name).samples) <= high


def test_first_scenes_are_apart() -> None:
    starts = sorted(drawn.FIRST.values())
    assert min(b - a for a, b in itertools.pairwise(starts)) >= 300
