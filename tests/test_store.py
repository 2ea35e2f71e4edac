"""Run folders: what is on disk after a torn write, a full disk, a second writer and strange text."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import SPEC, Fake, make_cell, make_samples
from hypothesis import given
from hypothesis import strategies as st

from pgbench import durable, store
from pgbench.errors import ResumeError, StoreError
from pgbench.lines import dump, parse
from pgbench.records import (
    Cost,
    Data,
    Failure,
    ModuleGroup,
    PeakMemory,
    Quantization,
    RunRecord,
    SampleLine,
    Score,
    Stack,
)
from pgbench.runner import run
from pgbench.samples import SAMPLES, Samples, read_lines
from pgbench.types import Continuation

STRANGE = "路口的标志 \u2028\u2029\x85 \ud800 caf\udce9 \x00\x1b[2J \\n \"'\n\r\t \U0001f600"
PLANNED = [2, 2, 1]
DATA = Data("d16e57", available=5, published=5, selected=5, unscored=0, demo=False)
STACK = Stack("fake", {"torch": "2.13", "图": "1"}, threads=1, numerics={"cache": "dynamic"})
SCORE = Score(1 / 3, 0.1, 2 / 3, None, n=5, units=5, clusters=3, invalid=1, failed=1, interval="wilson")
MODULES = ModuleGroup("layers.*.up_proj", "torch.nn.Linear", 3, 1 << 40)
RECORD = RunRecord(
    schema=store.SCHEMA,
    key=SPEC.key,
    spec=dataclasses.replace(SPEC, variant=STRANGE),
    stack=dataclasses.replace(
        STACK, quantization=Quantization("4bit", (MODULES,), (), double_quant=True, workarounds=("one",))
    ),
    data=DATA,
    scores={"accuracy": SCORE, "none": Score(None, None, None, None, 0, 0, 0, 0, 0)},
    groups={"asks": {STRANGE: {"accuracy": SCORE}}},
    cost=Cost(0.1, 1e-300, 7, PeakMemory(9, "process resident"), 4, None, 2, None, 5.5, 0),
    started="2026-01-01T00:00:00+00:00",
    finished="2026-01-01T00:00:01+00:00",
    status="failures",
    primary="accuracy",
    failures=(Failure("s0", STRANGE), Failure("s1", "the image is missing")),
)


def line(number: int, batch: int, output: str = "yes", size: int = 2) -> SampleLine:
    return SampleLine(
        id=f"s{number}",
        prompt="answer en 这是什么?",
        request_key="0f" * 32,
        image="",
        batch=batch,
        batch_size=size,
        output=output,
        tokens=2,
        n_prompt=9,
        seconds=0.1 + 0.2,
        finite=True,
        stats={"accuracy": {"sum": 1 / 3, "n": 1.0}},
        target=("yes", "Yes", "图"),
    )


LINES = [line(0, 0), line(1, 0, STRANGE), line(2, 1), line(3, 1, "是"), line(4, 2, size=1)]
BATCHES = [LINES[:2], LINES[2:4], LINES[4:]]


def written(folder: Path, count: int = 3) -> bytes:
    """The bytes of a samples file that holds the first batches."""
    with Samples(folder, PLANNED) as samples:
        for batch in BATCHES[:count]:
            samples.append(batch)
    return (folder / SAMPLES).read_bytes()


def recovered(folder: Path) -> tuple[list[SampleLine], int]:
    with Samples(folder, PLANNED) as samples:
        ids = [name for _, names in samples.recover() for name in names]
        found = list(samples.answers.lines())
        assert [line.id for line in found] == ids
        return found, samples.answers.done


def test_answers_come_back_as_they_were_given(tmp_path: Path) -> None:
    written(tmp_path)
    assert recovered(tmp_path) == (LINES, 3)
    assert list(read_lines(tmp_path)) == LINES


def test_a_batch_torn_at_any_byte_is_cut_and_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # 500 of them take seconds, and tear nothing
    whole = written(tmp_path, 2)
    kept = len(b"".join(whole.splitlines(keepends=True)[:2]))
    path = tmp_path / SAMPLES
    for size in range(kept, len(whole)):
        path.write_bytes(whole[:size])
        with Samples(tmp_path, PLANNED) as samples:
            assert list(samples.recover()) == [(0, [line.id for line in LINES[:2]])], size
            assert samples.pending() == [1, 2]
            assert path.stat().st_size == kept
            samples.append(BATCHES[1])
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "tail",
    [
        b"\0" * 512 + b"\n",
        b"null\n",
        b"[]\n{}\n",
        b'{"id": "s4"}\n',
        b"\xff\xfe\n",
        b"not json\n",
        b"\n",
        b'"target"\n',
    ],
    ids=repr,
)
def test_a_foreign_tail_is_cut(tmp_path: Path, tail: bytes) -> None:
    whole = written(tmp_path, 2)
    (tmp_path / SAMPLES).write_bytes(whole + tail)
    assert recovered(tmp_path) == (LINES[:4], 2)
    assert (tmp_path / SAMPLES).read_bytes() == whole


@pytest.mark.parametrize("damaged", range(4))
@pytest.mark.parametrize("foreign", [b"not json\n", b""], ids=["foreign", "lost"])
def test_damage_before_good_answers_is_refused_and_cuts_nothing(
    tmp_path: Path, damaged: int, foreign: bytes
) -> None:
    lines = written(tmp_path).splitlines(keepends=True)
    lines[damaged] = foreign
    (tmp_path / SAMPLES).write_bytes(b"".join(lines))
    with pytest.raises(StoreError, match=r"is damaged at byte [\d,]+ and \d answers of other batches follow"):
        recovered(tmp_path)
    assert (tmp_path / SAMPLES).read_bytes() == b"".join(lines)


def test_a_batch_that_stands_twice_in_a_file_is_damage(tmp_path: Path) -> None:
    whole = written(tmp_path)
    path = tmp_path / SAMPLES
    path.write_bytes(whole + b"".join(whole.splitlines(keepends=True)[:2]))
    with pytest.raises(
        StoreError, match=rf"is damaged at byte {len(whole):,} and 2 answers of other batches"
    ):
        recovered(tmp_path)


def test_reading_says_which_line_is_foreign(tmp_path: Path) -> None:
    whole = written(tmp_path)
    (tmp_path / SAMPLES).write_bytes(whole + b'{"torn')
    assert list(read_lines(tmp_path)) == LINES
    (tmp_path / SAMPLES).write_bytes(whole + b"null\n")
    with pytest.raises(StoreError, match=r"samples-0-of-1.jsonl, line 6 is not an answer"):
        list(read_lines(tmp_path))
    assert list(read_lines(tmp_path / "nowhere")) == []


@pytest.mark.parametrize("lost", range(4))
def test_a_batch_that_lacks_a_line_is_not_read_over(tmp_path: Path, lost: int) -> None:
    """Else its line and the next batch's first would pass for a batch, and an answer would go missing."""
    lines = written(tmp_path).splitlines(keepends=True)
    del lines[lost]
    (tmp_path / SAMPLES).write_bytes(b"".join(lines))
    with pytest.raises(StoreError, match=rf"batch {lost // 2} before it is not whole; restore it"):
        list(read_lines(tmp_path))


def half(file: int, data: bytes, *, write: Callable[[int, bytes], int] = os.write) -> int:
    return write(file, data[: len(data) // 2])


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("call", "fault"), [("write", half), ("write", full), ("fsync", full)])
def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, fault: Callable[..., int]
) -> None:
    before = written(tmp_path, 1)
    with Samples(tmp_path, PLANNED) as samples:
        list(samples.recover())
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fault)
            with pytest.raises(StoreError) as caught:
                samples.append(BATCHES[1])
        assert re.fullmatch(
            r"cannot write .*samples-0-of-1.jsonl: No space left on device", str(caught.value)
        )
        assert (tmp_path / SAMPLES).read_bytes() == before
        assert samples.pending() == [1, 2]
        samples.append(BATCHES[1])  # somebody made room
    assert recovered(tmp_path) == (LINES[:4], 2)


def test_a_second_writer_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with Samples(tmp_path, PLANNED) as first:
        first.append(BATCHES[0])
        with (
            pytest.raises(StoreError, match="another process is writing it"),
            Samples(tmp_path, PLANNED),
        ):
            pass
        first.append(BATCHES[1])
    assert recovered(tmp_path) == (LINES[:4], 2)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match=r"cannot write .*: Not a directory"),
        Samples(tmp_path / "file" / "run", PLANNED),
    ):
        pass
    with pytest.raises(StoreError, match=r"cannot write .*: Not a directory"):
        durable.write_json(tmp_path / "file" / "run" / "spec.json", {})


def test_a_disk_that_is_full_from_the_first_answer_leaves_no_costs_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are those of a stack that is gone, and would be told as another one's."""

    def refused(*_: object) -> None:
        raise StoreError("cannot write it: No space left on device")

    monkeypatch.setattr(Samples, "append", refused)
    with pytest.raises(StoreError, match="No space left"):
        run(make_cell(make_samples(4), Fake()), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("old", [None, b'{"old": 1}\n'], ids=["new", "there"])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_document_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, old: bytes | None
) -> None:
    path = tmp_path / "record.json"
    if old:
        path.write_bytes(old)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(StoreError, match=r"cannot write .*record.json: No space"):
            durable.write_json(path, {"new": 2})
    assert [file.name for file in tmp_path.iterdir()] == (["record.json"] if old else [])
    assert not old or path.read_bytes() == old
    durable.write_json(path, {"new": 2})
    assert durable.read_json(path) == {"new": 2}


def test_a_record_comes_back_equal(tmp_path: Path) -> None:
    store.finish(tmp_path, RECORD)
    assert store.read_record(tmp_path) == RECORD
    text = (tmp_path / "record.json").read_bytes()
    assert json.loads(text)["failures"][0]["reason"] == STRANGE
    text.decode("utf-8")


def test_text_stays_readable_on_disk(tmp_path: Path) -> None:
    durable.write_json(tmp_path / "a.json", {"answer": "路口"})
    assert "路口" in (tmp_path / "a.json").read_text(encoding="utf-8")


@given(st.text(st.characters()), st.none() | st.lists(st.text(st.characters())).map(tuple) | st.text())
def test_any_text_survives_a_line(output: str, target: tuple[str, ...] | str | None) -> None:
    given_ = dataclasses.replace(LINES[0], output=output, target=target, error=output)
    raw = dump(given_)
    assert raw.count(b"\n") == 1
    assert parse(raw) == given_


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_not_stored(tmp_path: Path, number: float) -> None:
    before = written(tmp_path, 1)
    bad = dataclasses.replace(LINES[2], stats={"accuracy": {"sum": number}})
    with Samples(tmp_path, PLANNED) as samples:
        list(samples.recover())
        with pytest.raises(StoreError, match="a result cannot be stored: Out of range float"):
            samples.append([bad, LINES[3]])
    assert (tmp_path / SAMPLES).read_bytes() == before
    with pytest.raises(StoreError, match="cannot be stored"):
        store.finish(
            tmp_path, dataclasses.replace(RECORD, scores={"a": dataclasses.replace(SCORE, value=number)})
        )
    assert store.read_record(tmp_path) is None


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "is it NaN?\ud800"])
def test_words_for_what_is_no_number_are_stored(word: str) -> None:
    line = dataclasses.replace(LINES[0], output=word, target=(word,))
    assert json.loads(dump(line))["output"] == word
    assert parse(dump(line)) == line


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["stats", "likelihoods", "seconds"])
def test_no_field_of_a_line_takes_what_is_no_number(where: str, number: float) -> None:
    likelihoods = (Continuation(" NaN", (number,)),)
    given_: dict[str, Any] = {"stats": {"a": {"sum": number}}, "likelihoods": likelihoods, "seconds": number}
    with pytest.raises(StoreError, match="cannot be stored"):
        dump(dataclasses.replace(LINES[0], **{where: given_[where]}))


@pytest.mark.parametrize("schema", [None, 0, store.SCHEMA + 1, "1"])
def test_a_record_of_another_schema_is_refused(tmp_path: Path, schema: object) -> None:
    durable.write_json(tmp_path / "record.json", {**store.plain(RECORD), "schema": schema})
    with pytest.raises(StoreError, match=rf"has schema {schema!r}; this pgbench reads schemas 1 and 2"):
        store.read_record(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"schema": 1}', '{"schema"', "\ud800"])
def test_a_record_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(StoreError, match=r"record\.json"):
        store.read_record(tmp_path)


def test_differences_name_what_changed() -> None:
    stored = {"a": 1, "b": {"c": [1, 2], "same": "x"}, "gone": 0}
    current = {"a": 2, "b": {"c": [1], "same": "x"}, "new": "y" * 99}
    assert list(store.differences(stored, current, "spec")) == [
        "spec.a: was 1, now 2",
        "spec.b.c: was [1, 2], now [1]",
        "spec.gone: was 0, now null",
        f'spec.new: was null, now "{"y" * 56}...',
    ]
    assert list(store.differences(stored, dict(stored), "spec")) == []


def test_another_spec_or_stack_is_refused_by_name(tmp_path: Path) -> None:
    assert store.begin(tmp_path, SPEC, DATA, "then") == "then"
    assert store.begin(tmp_path, SPEC, DATA, "now") == "then"
    with pytest.raises(ResumeError, match=r"began differently: spec.seed: was 0, now 1. Restore that"):
        store.begin(tmp_path, dataclasses.replace(SPEC, seed=1), DATA, "now")
    with pytest.raises(ResumeError, match=r'data.digest: was "d16e57", now "other"'):
        store.begin(tmp_path, SPEC, dataclasses.replace(DATA, digest="other"), "now")
    store.keep_stack(tmp_path, STACK)
    store.keep_stack(tmp_path, STACK)
    with pytest.raises(ResumeError, match=r'stack.versions.torch: was "2.13", now "2.14"'):
        store.keep_stack(tmp_path, dataclasses.replace(STACK, versions={"torch": "2.14", "图": "1"}))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"spec": {}}'])
def test_a_damaged_spec_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "spec.json").write_text(text)
    with pytest.raises(StoreError, match=r"spec\.json"):
        store.begin(tmp_path, SPEC, DATA, "now")


def test_no_file_names_a_host_a_user_a_token_or_a_path(tmp_path: Path) -> None:
    told = {"HOME": f"{tmp_path}/tell-tale-home", "USER": "telltaleuser", "LOGNAME": "telltaleuser"}
    told |= {
        "HOSTNAME": "telltalehost",
        "HF_TOKEN": "hf_telltaletoken",
        "HUGGING_FACE_HUB_TOKEN": "hf_telltaletoken",
    }
    out = tmp_path / "telltaleout"
    arguments = ["run", "--task", "textvqa", "--backend", "oracle", "--limit", "6", "--out", str(out)]
    subprocess.run(
        [sys.executable, "-m", "pgbench", *arguments], env=os.environ | told, check=True, capture_output=True
    )
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {
        "spec.json",
        "stack.json",
        "record.json",
        SAMPLES,
        "session-0-of-1.json",
    }
    for path in files:
        text = path.read_text(encoding="utf-8")
        for secret in (
            "tell-tale",
            "telltale",
            os.uname().nodename,
            str(tmp_path),
            sys.prefix,
            "/tmp",
            "/home",
        ):
            assert secret not in text, (path.name, secret)
