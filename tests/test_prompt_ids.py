"""Prompt lint: the tokens that every task asks every kind of checkpoint with, and those that records keep.

tests/prompt_ids.json was checked by eye against docs/protocol.md. After a change of a prompt that is meant,
`python tests/test_prompt_ids.py` writes it anew. The chat kind has a layout of its own, and tests of its own.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import tiny

import pgbench
from pgbench.batch import LINTED, Cell, prepare
from pgbench.errors import UsageError
from pgbench.records import essence
from pgbench.registry import load_task, task_names
from pgbench.samples import read_lines
from pgbench.specs import expand
from pgbench.types import (
    Checkpoint,
    DataSource,
    Family,
    Profile,
    ProtocolName,
    Request,
    Sample,
    Style,
    Sweep,
    Task,
)

FILE = Path(__file__).parent / "prompt_ids.json"
OPTIONS = ("a red bus", "two")
# What prompts are made of; question and options have white space at their ends, as some published ones do.
FIELDS: dict[str, dict[str, object]] = {
    "cmmmu": {"type": "选择", "files": ()},
    "custom": {"verbatim": False},
    "mmvp": {"options": "(a) Open (b) Closed"},
}
WITH_OPTIONS = {"cmmmu", "custom", "mmmu", "scienceqa"}


def sample_of(task: str) -> Sample:
    return Sample(
        id="1",
        images=(tiny.picture(1),),
        question="What is it? ",
        target=None,
        options=OPTIONS if task in WITH_OPTIONS else (),
        context="Look at it.",
        fields=FIELDS.get(task, {}),
    )


def profiles() -> Iterator[Profile]:
    for kind, family, style in itertools.product(("pt", "mix", "ft"), get_args(Family), get_args(Style)):
        yield Profile(kind, family, "vqav2" if kind == "ft" else None, style)  # type: ignore[arg-type]


def prompt_of(task: Task, profile: Profile, variant: str, protocol: ProtocolName) -> Request | None:
    """The request that a run would make; None where the task has no such prompt."""
    point = Checkpoint("tiny", None, profile, tiny.SIDE, protocol=protocol)
    (spec,) = expand(Sweep(((task, variant, next(iter(task.splits)), DataSource("hub", "x")),), (point,)))
    sample = sample_of(task.name)
    cell = Cell(spec, task, "", pgbench.Dataset((sample,), "", "x"), None)  # type: ignore[arg-type]
    try:
        return prepare(cell, _Asked(), sample)  # type: ignore[arg-type, return-value]
    except UsageError:
        return None


class _Asked:
    def prepare(self, request: Request) -> Request:
        return request


def pinned(models: dict[ProtocolName, Any], name: str) -> dict[str, dict[str, object]]:
    """Prompt -> its tokens under each protocol, and who is asked so: kind, family, style, variant."""
    task, found = load_task(name), dict[str, dict[str, Any]]()
    for protocol, profile, variant in itertools.product(models, profiles(), task.variants):
        request = prompt_of(task, profile, variant, protocol)
        if request is None:
            continue
        entry = found.setdefault(request.prompt, {"ids": {}, "asked": []})
        entry["ids"][protocol] = " ".join(map(str, models[protocol].prepare(request).ids))
        who = f"{profile.kind} {profile.family} {profile.style} {variant}"
        if who not in entry["asked"]:
            entry["asked"].append(who)
    return found


def models_below(folder: Path) -> dict[ProtocolName, Any]:
    made = tiny.checkpoint(folder / "paligemma-mix-28", "paligemma")
    return {protocol: tiny.load(made, protocol=protocol) for protocol in get_args(ProtocolName)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[ProtocolName, Any]:
    return models_below(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("name", sorted(task_names()))
def test_prompts_have_the_tokens_that_they_had(models: dict[ProtocolName, Any], name: str) -> None:
    known = json.loads(FILE.read_text(encoding="utf-8"))
    assert pinned(models, name) == known.get(name)


def test_nothing_else_is_pinned() -> None:
    assert sorted(json.loads(FILE.read_text(encoding="utf-8"))) == sorted(task_names())


def test_both_protocols_agree_but_for_white_space_at_the_end_and_the_cap() -> None:
    for name, prompts in json.loads(FILE.read_text(encoding="utf-8")).items():
        for prompt, entry in prompts.items():
            twin = prompts.get(f"{prompt}\n")  # where the paper protocol keeps a task's last newline
            if prompt == prompt.rstrip() and not twin:
                whole, seen = (entry["ids"][protocol].split() for protocol in ("hf", "paper"))
                assert seen == whole[: tiny.IMAGE_TOKENS + load_task(name).pixels.text_len]


# Records


def ids_of(text: str) -> list[int]:
    """ "4*9 2" is 9 9 9 9 2."""
    parts = [part.rpartition("*") for part in text.split()]
    return [int(token) for count, _, token in parts for _ in range(int(count or 1))]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_record_keeps_the_tokens_of_its_first_prompts(tmp_path: Path, batch_size: int) -> None:
    ran = pgbench.run("textvqa", dtype="float32", limit=6, batch_size=batch_size, out=tmp_path)
    lines = list(read_lines(ran.folder))
    assert [bool(line.prompt_ids) for line in lines] == [place < LINTED for place in range(len(lines))]
    assert ran.record.prompts == {line.id: line.prompt_ids for line in lines[:LINTED]}
    assert [len(ids_of(line.prompt_ids)) for line in lines[:LINTED]] == [
        line.n_prompt for line in lines[:LINTED]
    ]
    without = [replace(line, prompt_ids="") for line in lines]
    assert essence(ran.record, lines) == essence(replace(ran.record, prompts={}), without)


def test_a_backend_without_tokens_keeps_none(tmp_path: Path) -> None:
    ran = pgbench.run("textvqa", backend="oracle", source="demo", limit=4, out=tmp_path)
    assert ran.record.prompts == {}
    assert all(not line.prompt_ids for line in read_lines(ran.folder))


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        made = models_below(Path(place))
        text = json.dumps(
            {name: pinned(made, name) for name in sorted(task_names())}, ensure_ascii=False, indent=1
        )
    FILE.write_text(text + "\n", encoding="utf-8")
