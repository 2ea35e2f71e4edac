"""Questions of one's own: the file's forms, what is refused, and runs to the end."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbench_tasks.custom import TASK, gold, prompt
from textvqa_layout import jpeg

from pgbench.cli import invoke
from pgbench.errors import DataError
from pgbench.metrics.named import NAMED
from pgbench.metrics.scoring import score
from pgbench.types import DataRequest, Dataset, Profile

MIX = Profile("mix", "paligemma")
PAGE = Path(__file__).parents[1] / "docs" / "custom-data.md"
Record = dict[str, Any]


def record(number: object = 1, **changes: object) -> Record:
    fields = {"id": number, "image": "a.png", "question": "what is it?", "answers": ["red"], **changes}
    return {name: value for name, value in fields.items() if value is not ...}


def written(folder: Path, records: list[Any], *, form: str = "lines", bom: bool = False) -> Path:
    lines = [json.dumps(one, ensure_ascii=False) for one in records]
    content = "\n".join(lines) + "\n" if form == "lines" else f" [{', '.join(lines)}]"
    path = folder / "my.jsonl"
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + content.encode())
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(jpeg(3))
    return path


def load(path: Path) -> Dataset:
    return TASK.sources["files"](DataRequest("all", path=str(path)))


@pytest.mark.parametrize("form", ["lines", "array"])
@pytest.mark.parametrize("bom", [False, True])
def test_a_file_in_either_form(tmp_path: Path, form: str, bom: bool) -> None:
    records = [
        record(1, question="这是什么?\u2028", answers=["红色", "red"], groups={"kind": "sign", "level": 2}),
        record("b", image=["a.png", "./b.png"], answers="red", cluster="house 1"),
        record("c", question=..., prompt=" caption en", answers=..., source="passed over"),
    ]
    data = load(written(tmp_path, records, form=form, bom=bom))
    one, two, three = data.samples
    assert (one.id, one.question, one.target) == ("1", "这是什么?\u2028", ("红色", "red"))
    assert (one.cluster, dict(one.groups)) == ("a.png", {"kind": "sign", "level": "2"})
    assert ([image.name for image in two.images], two.cluster) == (["a.png", "b.png"], "house 1")
    assert (two.target, three.target) == (("red",), None)
    assert [prompt(sample, MIX, "default") for sample in (one, three)] == [
        "answer en 这是什么?",
        " caption en",
    ]
    assert prompt(two, replace(MIX, style="official"), "default") == "what is it?"
    assert (data.id, data.missing, data.samples[0].images[0].read()) == ("my.jsonl", (), jpeg(3))


def test_options_are_shown_and_letters_known(tmp_path: Path) -> None:
    options = ["Open", "Closed", "0"]
    given = ["b", 1, "Closed", "0", 2]
    records = [
        record(n, answers=..., options=options, answer=answer) for n, answer in enumerate([*given, None])
    ]
    samples = load(written(tmp_path, records)).samples
    assert [sample.target for sample in samples] == ["B", "B", "B", "C", "C", None]
    assert prompt(samples[0], MIX, "default") == "answer en what is it?\n(A) Open\n(B) Closed\n(C) 0"
    asked = replace(samples[0], fields={"verbatim": True})
    assert prompt(asked, MIX, "default") == "what is it?"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (record(2, question=...), r"line 2 \(id 2\): has neither of 'question' and 'prompt'"),
        (record(2, prompt="x"), "has both of 'question' and 'prompt'"),
        (record(2, question=" "), "field 'question' is empty"),
        (record(2, question=3), "field 'question' should be text, got 3"),
        (record(1), r"line 2: id '1' occurs twice, first in my.jsonl line 1"),
        (record("1"), "id '1' occurs twice"),
        (record(True), "field 'id' should be text or a whole number, got True"),
        (record(" "), "field 'id' should be text"),
        (record(...), "line 2: field 'id' is missing"),
        (record(2, image=...), "field 'image' is missing"),
        (record(2, image=[]), "field 'image' is an empty list"),
        (record(2, answers=[]), "field 'answers' is an empty list; leave it out"),
        (record(2, answers=[3]), "field 'answers' should be text, got 3"),
        (record(2, answer="x"), "has both 'answer' and 'answers'"),
        (record(2, options=["x", "y"]), "has 'options' and 'answers'"),
        (record(2, answers=..., options=["x", "y"], answer=0), "line 2 has options, my.jsonl line 1 has ans"),
        (record(2, answers=..., options=["x"], answer=0), "should be a list of 2 to 26 different texts"),
        (record(2, answers=..., options=["x", "x"], answer=0), "2 to 26 different texts"),
        (record(2, answers=..., options=["x", "y"], answer=2), "answer 2 is none of the options; .* A to B"),
        (record(2, answers=..., options=["x", "y"], answer="C"), "answer 'C' is none of the options"),
        (record(2, answers=..., options=["B", "A"], answer="A"), "'A' is a letter and an option's text"),
        (record(2, groups=["x"]), "field 'groups' should be an object"),
        (record(2, groups={"": "x"}), "field 'groups' has a value without a name"),
        (record(2, groups={"x": float("nan")}), "a group or cluster should be text or a number, got null"),
        (record(float("nan")), "field 'id' is null"),
        (record(2, groups={"x": None}), "a group or cluster should be text or a number, got null"),
        (record(2, cluster=""), "a group or cluster should be text or a number"),
        (["x"], "line 2: expected an object with id, image and question, got a list"),
    ],
)
def test_a_record_that_cannot_be_used_is_named(tmp_path: Path, bad: object, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        load(written(tmp_path, [record(1), bad]))
    assert "my.jsonl line 2" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"my\.jsonl record 1"):
        load(written(tmp_path, [record(1), bad], form="array"))


HOSTILE = [
    "../secret.png",
    "/etc/passwd",
    "x/../../y.png",
    "..",
    "C:/x.png",
    "c:x",
    "..\\x.png",
    "",
    ".",
    "a\0b",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_record_cannot_choose_files_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=re.escape(repr(name)) + " is no path below the folder"):
        load(written(tmp_path, [record(1, image=["a.png", name])]))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "my.jsonl holds no records; expected a file of records"),
        (b"\n \n", "holds no records"),
        (b"[]", "holds no records"),
        (b'{"id": 1,\n', "line 1: not JSON: .* expected a file of records"),
        (b'\n{"id": "\xff"}', "line 2: not UTF-8"),
        (b'{"id": 1, "id": 2}', "line 1: field 'id' occurs twice in one record"),
        (b'{"id": "\\ud800", "image": "a"}', "line 1: field 'id' holds half a surrogate pair"),
        (b"[[1]", "my.jsonl: not JSON"),
        (b"[" * 99_999, "nested too deeply"),
        (b"3", "line 1: expected an object .*, got 3"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "my.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=said):
        load(tmp_path / "my.jsonl")


def test_data_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder; expected a file of records"):
        load(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path / "no")
    with pytest.raises(DataError, match="needs --data FILE"):
        TASK.sources["files"](DataRequest("all"))
    with pytest.raises(DataError, match="unknown split of custom 'val'"):
        TASK.sources["files"](DataRequest("val", path=str(tmp_path)))


def test_missing_images_are_listed_and_the_digest_sees_every_choice(tmp_path: Path) -> None:
    lost = [record(2, image="no.png"), record(3, image=["a.png", "no.png"]), record(4, image="4" * 300)]
    data = load(written(tmp_path, [record(1), *lost]))
    assert data.missing == ("2", "3", "4")
    assert load(written(tmp_path, [record(1, answers=float("nan"))])).samples[0].target is None
    changes: list[Record] = [
        {},
        {"question": "why?"},
        {"question": ..., "prompt": "what is it?"},
        {"groups": {"x": "y"}},
        {"cluster": "c"},
        {"answers": "blue"},
        {"image": "b.png"},
    ]
    assert len({load(written(tmp_path, [record(1, **one)])).digest for one in changes}) == len(changes)


VALUES = st.none() | st.booleans() | st.integers(-1, 3) | st.text(max_size=3) | st.lists(st.text(max_size=2))
NAMES = ("id", "image", "question", "prompt", "answers", "answer", "options", "groups", "cluster")


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_any_record_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, found: Record) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text(json.dumps({"id": 1, "image": "a.png", **found}), "utf-8")
    try:
        (sample,) = load(path).samples
    except DataError as error:
        refused = str(error)
    else:
        assert prompt(sample, MIX, "default")
        assert sample.target is None or score(NAMED["exact_match"], [(sample, gold(sample))]).value == 1.0
        return
    assert "any.jsonl line 1" in refused


def ran(capsys: pytest.CaptureFixture[str], *flags: str) -> Record:
    assert invoke(["run", "--task", "custom", *flags, "--json"]) == 0
    document: Record = json.loads(capsys.readouterr().out)["record"]
    return document


def test_the_file_of_the_page_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    (tmp_path / "images").mkdir()
    for name in ("1.png", "2.png"):
        (tmp_path / "images" / name).write_bytes(jpeg(int(name[0])))
    (tmp_path / "my.jsonl").write_text(example, "utf-8")
    flags = ["--data", str(tmp_path / "my.jsonl"), "--out", str(tmp_path / "out")]
    found = ran(capsys, *flags, "--backend", "oracle")
    assert {name: one["value"] for name, one in found["scores"].items()} == {"exact_match": 1.0}
    assert (found["scores"]["exact_match"]["n"], found["data"]["unscored"], found["data"]["published"]) == (
        3,
        1,
        None,
    )
    assert found["groups"]["language"]["zh"]["exact_match"]["n"] == 1
    by_name = ran(capsys, *flags, "--backend", "oracle", "--metric", "anls")
    assert (by_name["primary"], list(by_name["scores"]), by_name["spec"]["metric"]) == (
        "anls",
        ["anls"],
        "anls",
    )
    assert by_name["key"] != found["key"]
    for name in NAMED:
        assert f"| `{name}` |" in PAGE.read_text("utf-8")


def test_one_breakdown_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, [record(1, groups={"kind": "sign"}), record(2, groups={"kind": "\x1b[31mcar"})])
    ran(capsys, "--data", str(path), "--out", str(tmp_path / "out"), "--backend", "oracle")
    (run,) = (tmp_path / "out" / "custom").iterdir()
    assert invoke(["show", str(run), "--by", "kind"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"(?m)^kind +metric +score", shown)
    assert re.search(r"(?m)^sign +exact_match +100\.00", shown)
    assert "\x1b" not in shown
    assert invoke(["show", str(run), "--by", "kin"]) == 2
    assert "unknown group of this custom run 'kin'; did you mean kind?" in capsys.readouterr().err


def test_a_checkpoint_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, [record(1), record(2, image="b.png", question="what colour is the sign?")])
    flags = [
        "--data",
        str(path),
        "--out",
        str(tmp_path / "out"),
        "--model",
        "tiny-gemma2",
        "--dtype",
        "float32",
    ]
    found = ran(capsys, *flags)
    assert (found["status"], found["scores"]["exact_match"]["n"]) == ("complete", 2)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--metric", "exct"], "unknown metric of custom 'exct'"),
        (["--metric", "choice"], "sample 1 has no options"),
        (["--metric", "vqa_accuracy"], "sample 1: vqa_accuracy is defined for 10 answers"),
        ([], "1 of 2 samples name an image that is not there, first: no.png of sample 2"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    path = written(tmp_path, [record(1), record(2, image="no.png")])
    run = [
        "run",
        "--task",
        "custom",
        "--data",
        str(path),
        "--backend",
        "oracle",
        "--out",
        str(tmp_path / "out"),
    ]
    assert invoke([*run, *flags]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1
