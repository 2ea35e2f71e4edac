"""The CMMMU task: both published layouts, odd records among them, prompts, gold and the rules."""

from __future__ import annotations

from pathlib import Path

import mmmu_rules as plain
import pytest
from cmmmu_layout import RECORDS, Record, jpeg, original, parquet, record
from hypothesis import given
from hypothesis import strategies as st
from pgbench_tasks.cmmmu import ALL, TASK, answer, gold, prompt, read_files, read_hub

from pgbench.errors import DataError
from pgbench.metrics.cmmmu import (
    ACCURACY,
    PLAIN_ACCURACY,
    Type,
    answer_accuracy,
    parse_choices,
    parse_judgement,
    response_accuracy,
)
from pgbench.metrics.scoring import score
from pgbench.types import DataRequest, Dataset, Profile, Sample

PALIGEMMA = Profile("mix", "paligemma")
OFFICIAL = Profile("mix", "paligemma", style="official")


def load(folder: Path, split: str = "val", source: str = "files") -> Dataset:
    return TASK.sources[source](DataRequest(split, path=str(folder)))


def test_the_original_layout(tmp_path: Path) -> None:
    data = load(original(tmp_path / "d", RECORDS))
    by_id = {one.id: one for one in data.samples}
    assert list(by_id) == ["1902", "7490", "5286", "12", "13", "14"]
    assert by_id["1902"].options == ("贝壳", "旗帜 ", "下弧 ", "扇形")
    assert by_id["1902"].images[0].read() == jpeg()
    assert by_id["1902"].groups == {"subject": "设计", "discipline": "Art & Design", "type": "选择"}
    assert (by_id["12"].target, by_id["12"].groups["discipline"]) == ("-474.04", "Business")
    assert (by_id["5286"].options, by_id["5286"].target, by_id["13"].target) == ((), "错", None)
    assert (data.id, data.missing) == ("cmmmu-data-val", ("14",))
    with pytest.raises(OSError, match="14 has no image"):
        by_id["14"].images[0].read()


def test_both_sources_give_the_same(tmp_path: Path) -> None:
    original(tmp_path / "files", RECORDS)
    parquet(tmp_path / "hub", RECORDS)
    requests = [DataRequest("val", path=str(tmp_path / name)) for name in ("files", "hub")]
    for images, number in (("first", 1), (ALL, 4)):
        ours, theirs = read_files(requests[0], images), read_hub(requests[1], images)
        assert (ours.digest, ours.missing) == (theirs.digest, theirs.missing)
        for one, other in zip(ours.samples, theirs.samples, strict=True):
            assert (one.fields, one.groups) == (other.fields, other.groups)
        assert [image.name for image in ours.samples[1].images] == [
            f"a_07490_00{i}.png" for i in range(1, number + 1)
        ]
        assert theirs.samples[1].images[-1].read() == jpeg()


def test_the_type_is_part_of_the_digest(tmp_path: Path) -> None:
    one = load(original(tmp_path / "a", [record(1, type="判断")]))
    other = load(original(tmp_path / "b", [record(1, type="填空")]))
    assert one.digest != other.digest


def test_images_that_are_not_there_are_listed(tmp_path: Path) -> None:
    folder = original(tmp_path / "d", RECORDS)
    (folder / "cmmmu-data-val" / "art_and_design" / "a_07490_003.png").unlink()
    request = DataRequest("val", path=str(folder))
    assert (read_files(request, "first").missing, read_files(request, ALL).missing) == (
        ("14",),
        ("7490", "14"),
    )
    hub = parquet(tmp_path / "hub", [record(5, question='看<img="q_9.png">', img_list=["q_5.png"])])
    assert load(hub, source="hub").missing == ("5",)


def test_test_records_have_no_answers(tmp_path: Path) -> None:
    """In other splits a question mark may be what belongs into a blank."""
    blank = original(tmp_path / "val", [record(2, type="填空", answer="?")])
    assert [one.target for one in load(blank).samples] == ["?"]
    records = [record(1, answer=...), record(2, answer="?"), record(3, answer=""), record(4)]
    assert [s.target for s in load(original(tmp_path / "d", records, "test"), "test").samples] == [
        *(None, None, None),
        "D",
    ]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"id": "x1"}, "'id' should be a whole number, got 'x1'"),
        ({"id": True}, "'id' should be a whole number"),
        ({"id": "01902"}, "id 1902 occurs twice"),
        ({"type": "问答"}, "'type' should be 选择, 判断, 填空, got '问答'"),
        ({"option3": None}, "'option3' is null"),
        ({"question": ...}, "'question' is missing"),
        ({"img_list": "q.png"}, "'img_list' should be a list"),
        ({"question": '<img="../../etc/passwd">'}, "no plain file name"),
        ({"answer": 3}, "'answer' should be text, got 3"),
    ],
)
def test_a_bad_record_is_named(tmp_path: Path, bad: Record, said: str) -> None:
    folder = original(tmp_path / "d", [RECORDS[0], record(9, **bad)])
    with pytest.raises(DataError, match=said) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_what_a_data_folder_lacks(tmp_path: Path) -> None:
    folder = original(tmp_path / "d", RECORDS)
    with pytest.raises(DataError, match=r"cmmmu-data-dev/ is not in .*there: cmmmu-data-val"):
        load(folder, "dev")
    with pytest.raises(DataError, match=r"did you mean test\?"):
        load(folder, "tset")
    (folder / "cmmmu-data-val" / "business" / "business.jsonl").write_text('{"id": 1}\n{"id"')
    with pytest.raises(DataError, match=r"business\.jsonl"):
        load(folder)


def sample(kind: Type, target: str | None, *options: str, question: str = "") -> Sample:
    return Sample("1", (), question, target, options, fields={"type": kind, "files": ("q_1.png", "q_2.png")})


def test_prompts() -> None:
    choice = sample("选择", "A", "甲 ", '<img="q_2.png">', question='如<img="q_1.png">和<img="q_3.png">\n')
    free = sample("填空", "x", question="是__。")
    assert prompt(choice, PALIGEMMA, "first") == (
        'answer en 如<图片 1>和<img="q_3.png">\n(A) 甲 \n(B) <图片 2>'
    )
    assert prompt(free, PALIGEMMA, "first") == "answer en 是__。"
    official = prompt(choice, OFFICIAL, "first")
    assert official.startswith("请回答以下多项选择题，")
    assert official.endswith(
        '\n\n问题：如<图片 1>和<img="q_3.png">\n\n选项：\n(A) 甲 \n(B) <图片 2>\n\n正确答案：\n'
    )
    assert prompt(free, OFFICIAL, "first").startswith("请回答以下填空题，")
    assert prompt(free, OFFICIAL, "first").endswith("\n\n问题：是__。\n正确答案：\n")


FOUR = ("贝壳", "旗帜 ", "下弧 ", "扇形")


def test_gold_reaches_the_ceiling() -> None:
    """By the other transcription: letters out of order and a text after 为 cannot be said."""
    rows = [
        sample("选择", "AC", *FOUR),
        sample("选择", "BA", *FOUR),
        sample("判断", "错"),
        sample("判断", "对"),
    ]
    rows += [sample("填空", one) for one in ("-474.04", "<", "（1）", "是", "a为b", "1，000")]
    right = [plain.cmmmu_choice(str(one.target), list(FOUR)) == one.target for one in rows[:2]]
    right += [plain.cmmmu_judgement(str(one.target)) == one.target for one in rows[2:4]]
    right += [plain.cmmmu_blank(str(one.target), str(one.target)) for one in rows[4:]]
    assert right == [True, False, True, True, True, True, True, True, False, True]
    for metric in (ACCURACY, PLAIN_ACCURACY):
        assert score(metric, [(one, gold(one)) for one in rows]).value == sum(right) / len(rows)
    assert gold(sample("判断", None)) == ""


def test_empty_answers_score_what_a_guess_expects() -> None:
    """A choice left empty is wrong without a draw, a judgement left empty is drawn."""
    rows = [sample("选择", "B", *FOUR), sample("判断", "错"), sample("填空", "x")]
    expected, wrong = score(ACCURACY, [(r, "") for r in rows]), score(PLAIN_ACCURACY, [(r, "") for r in rows])
    assert (expected.value, wrong.value) == (0.5 / 3, 0.0)
    assert (expected.invalid, wrong.invalid) == (3, 3)
    drawn = [(sample("选择", "B", *FOUR), "？"), (sample("选择", "AB", *FOUR), "？")]
    assert score(ACCURACY, drawn).value == 0.25 / 2
    assert score(ACCURACY, [(r, None) for r in rows]).value == 0.0


WORDS = st.sampled_from(
    "A B C D (A) (B) DNA Ａ （A） 正确 不正确 对 不对 错 错误 对错 是否 或者 肯定 否定 不合适 是 为".split()
    + "所以 答案 判断 结果 。 = , . ' : 1，000 1,000 1_000 -3.14159 .5 1e3 １２ nan inf 贝壳 下弧 abc".split()
    + ["\n", ""]
)
SAID = st.lists(WORDS, max_size=8).map("".join) | st.lists(WORDS, max_size=5).map(" ".join)


@given(SAID, st.lists(st.sampled_from([*FOUR, "", "是", "1"]), min_size=4, max_size=4))
def test_choices_follow_the_rules(said: str, options: list[str]) -> None:
    chosen = plain.cmmmu_choice(said, options)
    assert parse_choices(said, options) == chosen
    assert answer(said, sample("选择", "A", *options)) == (chosen or "?")


@given(SAID, st.sampled_from("对错"))
def test_judgements_follow_the_rules(said: str, right: str) -> None:
    judged = plain.cmmmu_judgement(said)
    assert parse_judgement(said) == judged
    worth, invalid = response_accuracy(prediction=said, question_type="判断", gold=right)
    assert (worth, invalid) == ((0.5, True) if judged is None else (float(judged == right), False))


@given(SAID, SAID)
def test_blanks_follow_the_rules(said: str, right: str) -> None:
    worth, _ = response_accuracy(prediction=said, question_type="填空", gold=right)
    assert worth == plain.cmmmu_blank(said, right)


def test_answers_parsed_elsewhere_are_compared_as_they_are() -> None:
    assert answer_accuracy(prediction=" A", question_type="选择", gold="A") == 0.0
    assert answer_accuracy(prediction="甲品种", question_type="填空", gold="甲") == 1.0


def test_the_task_is_complete() -> None:
    assert list(TASK.splits.items()) == [("val", 900), ("dev", 112), ("test", 11000)]
    assert [(one.name, one.primary) for one in TASK.metrics] == [
        ("accuracy", True),
        ("plain_accuracy", False),
    ]
    assert TASK.cite.count("{") == TASK.cite.count("}")
    assert set(TASK.sources) == {"hub", "files", "demo"}
