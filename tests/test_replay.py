"""Answers made elsewhere, and the oracle: the two backends without a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pgbench.backends import Backend, oracle, replay
from pgbench.errors import DataError, SampleError, UsageError
from pgbench.submissions.read import read_predictions
from pgbench.types import Image, ModelRequest, Request

TWO = {"1": "red", "2": "blue"}


def unread() -> bytes:
    raise AssertionError("no image is opened")


def request(name: str, gold: str | None = None) -> Request:
    return Request(name, (Image("a.png", unread),), "answer en what?", 8, gold)


def write(folder: Path, text: str | bytes, name: str = "answers.json") -> ModelRequest:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return ModelRequest(predictions=str(folder / name))


@pytest.mark.parametrize(
    "text",
    [
        '{"1": "red", "2": "blue"}',
        '[{"id": "1", "answer": "red"}, {"id": "2", "answer": "blue"}]',
        '[{"question_id": 1, "answer": "red"}, {"question_id": 2, "answer": "blue"}]',  # VQA's result files
        '[{"questionId": 1, "prediction": "red"}, {"questionId": 2, "prediction": "blue"}]',
        '{"id": 1, "output": "red"}\n{"id": 2, "output": "blue"}\n',
        '\n{"sample_id": "1", "text": "red"}\r\n\n{"sample_id": "2", "response": "blue", "more": [1]}',
        '\ufeff{"1": "red", "2": "blue"}',
        '[{"id": "1", "question_id": 1, "answer": "red", "asked": "no"}, {"id": "2", "answer": "blue"}]',
    ],
)
def test_shapes(text: str) -> None:
    assert read_predictions(text.encode(), "a.json") == TWO


def test_one_record_is_one_answer() -> None:
    assert read_predictions(b'{"id": 7, "answer": ""}', "a.json") == {"7": ""}


def test_utf16_is_json_too() -> None:
    assert read_predictions(json.dumps(TWO).encode("utf-16"), "a.json") == TWO


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "holds no predictions"),
        (b"[]", "holds no predictions"),
        (b"{}", "holds no predictions"),
        (b"not json", "it is not JSON: Expecting value: line 1"),
        (b'{"id": 1, "answer": "a"}\n{"id": 2,', "line 2 is not JSON"),
        (b"\xff\xfe\xfd", "it is not JSON: "),
        (b"[" * 99_999, "is not JSON"),
        (b"3", "record 1 is a int, expected an object"),
        (b"[[]]", "record 1 is a list, expected an object"),
        (b'[{"answer": "a"}]', "record 1 needs one of id, sample_id"),
        (b'[{"id": 1}]', "it has id"),
        (b"[{}]", "it has nothing"),
        (b'[{"id": 1, "answer": 3}]', "record 1: 'answer' should be text, got 3"),
        (b'[{"id": 1, "answer": null}]', "'answer' should be text, got null"),
        (b'[{"id": true, "answer": "a"}]', "'id' should be text or a whole number, got True"),
        (b'[{"id": null, "answer": "a"}]', "'id' should be text or a whole number, got null"),
        (b'{"1": ["a"]}', "record 1: 'answer' should be text, got a list"),
        (b'[{"id": 1, "answer": "a"}, {"id": "1", "answer": "b"}]', "record 2 repeats the id 1"),
        (b'{"1": "a", "1": "b"}', "repeats the key 1"),
        (b'{"id": 1, "answer": "a"}\n{"id": 1, "answer": "a"}', "record 2 repeats the id 1"),
    ],
)
def test_what_holds_no_answers(text: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_predictions(text, "a.json")
    assert str(caught.value).startswith("a.json")
    assert "\n" not in str(caught.value)


def test_answers_come_back_in_order(tmp_path: Path) -> None:
    backend = replay.engine(write(tmp_path, json.dumps(TWO))).load()
    prepared = [backend.prepare(request(name)) for name in ("2", "1", "2")]
    assert [reply.text for reply in backend.generate(prepared)] == ["blue", "red", "blue"]
    assert all(reply.error is None and reply.finite for reply in backend.generate(prepared))


def test_a_sample_without_an_answer_fails(tmp_path: Path) -> None:
    backend = replay.engine(write(tmp_path, json.dumps(TWO))).load()
    with pytest.raises(SampleError, match="no prediction for sample 3"):
        backend.prepare(request("3"))


def test_the_checkpoint_is_the_file(tmp_path: Path) -> None:
    first = replay.engine(write(tmp_path, '{"1": "a"}', "mine.jsonl")).checkpoint
    same = replay.engine(write(tmp_path, '{"1": "a"}', "mine.json")).checkpoint
    other = replay.engine(write(tmp_path, '{"1": "b"}', "mine.json")).checkpoint
    assert (first.id, first.backend, first.resolution) == ("replay-mine", "replay", 0)
    assert first == same
    assert first.revision != other.revision


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs --predictions FILE"):
        replay.engine(ModelRequest())
    with pytest.raises(DataError, match=r"cannot read predictions .*gone\.json: No such file"):
        replay.engine(ModelRequest(predictions=str(tmp_path / "gone.json")))
    with pytest.raises(DataError, match="Is a directory"):
        replay.engine(ModelRequest(predictions=str(tmp_path)))


def test_the_oracle_reads_no_predictions(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--predictions goes with --backend replay"):
        oracle.engine(write(tmp_path, json.dumps(TWO)))


def test_the_oracle_prints_gold() -> None:
    found = oracle.engine(ModelRequest(style="official"))
    backend = found.load()
    prepared = [backend.prepare(request("1", "red")), backend.prepare(request("2"))]
    assert [reply.text for reply in backend.generate(prepared)] == ["red", ""]
    assert (found.checkpoint.id, found.checkpoint.profile.style) == ("oracle", "official")


@pytest.mark.parametrize("name", ["oracle", "replay"])
def test_both_are_backends(name: str, tmp_path: Path) -> None:
    made = write(tmp_path, json.dumps(TWO))
    engine = oracle.engine(ModelRequest()) if name == "oracle" else replay.engine(made)
    backend: Backend = engine.load()
    stack = backend.describe()
    assert (stack.backend, stack.device, stack.weight_bytes) == (name, "none", 0)
    assert str(tmp_path) not in repr(stack)
    assert backend.peak_memory().bytes > 1 << 20
    prepared = backend.prepare(request("1"))
    assert (prepared.length, prepared.image_key) == (0, "")
    assert prepared.request_key == backend.prepare(request("1", "x")).request_key
    assert prepared.request_key != backend.prepare(request("2")).request_key
    if name == "replay":
        with pytest.raises(UsageError, match="--mode generate"):
            backend.score([prepared], [["a"]])
    backend.close()
