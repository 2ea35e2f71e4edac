"""From axes to cells: keys that tell cells apart, and folder names that stay where they belong."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import POINT, SPEC, TASK
from hypothesis import example, given
from hypothesis import strategies as st

from pgbench.errors import UsageError
from pgbench.specs import cell_name, expand, file_name
from pgbench.store import folder_of
from pgbench.types import DataSource, RunSpec, Sweep

HARMLESS = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
HOSTILE = [
    *("../../etc/passwd", "/etc/passwd", "..", ".", "", "a/../../b", "\\\\server\\share", "C:\\x", "~/x"),
    *(
        "x" * 300,
        "a\0b",
        "a\nb\r",
        "\x1b[2J",
        "图像",
        "\u202egnp",
        "\ud800",
        "-rf",
        ".hidden",
        "con:",
        "a" * 79 + "/",
    ),
]


def changed(value: object) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return "another" if value is None else f"{value}x"


def variants(record: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The record once for each of its fields, with that one changed, nested records included."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            for name, inner in variants(value, f"{path}{field.name}."):
                yield name, dataclasses.replace(record, **{field.name: inner})
        else:
            yield path + field.name, dataclasses.replace(record, **{field.name: changed(value)})


def test_equal_specs_have_equal_keys() -> None:
    twin = dataclasses.replace(SPEC, checkpoint=dataclasses.replace(POINT))
    assert twin is not SPEC
    assert twin.key == SPEC.key
    assert len(SPEC.key) == 64


def test_every_field_is_in_the_key() -> None:
    found = dict(variants(SPEC))
    assert {
        "task",
        "batch",
        "images",
        "source.revision",
        "checkpoint.quant",
        "checkpoint.profile.style",
    } <= set(found)
    keys = [SPEC.key, *(spec.key for spec in found.values())]
    assert len(set(keys)) == len(found) + 1


def test_a_key_is_the_same_on_every_machine() -> None:
    assert SPEC.key == "6d2fa76f1ee562e4341ff1081273f23fe549cad3ef9edbd576e1f4b7dc73b03f"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_become_one_harmless_folder(text: str) -> None:
    spec = dataclasses.replace(
        SPEC, task=text, checkpoint=dataclasses.replace(POINT, id=text), source=DataSource("files", text)
    )
    folder = folder_of(Path("runs"), spec)
    assert len(folder.parts) == 3
    assert folder.parts[0] == "runs"
    assert all(set(part) <= HARMLESS and len(part) <= 120 for part in folder.parts)
    assert not any(part.startswith(".") for part in folder.parts)
    assert len(bytes(folder)) < 255


@given(st.text(st.characters()))
@example("." * 300)
def test_any_text_becomes_a_file_name(text: str) -> None:
    name = file_name(text)
    assert 0 < len(name) <= 80
    assert set(name) <= HARMLESS
    assert not name.startswith(".")
    assert file_name(name) == name


def test_specs_whose_names_look_alike_have_folders_of_their_own() -> None:
    ids = ("org/model", "org_model", "org:model", "." + "org_model")
    specs = [dataclasses.replace(SPEC, checkpoint=dataclasses.replace(POINT, id=name)) for name in ids]
    assert len({cell_name(spec) for spec in specs}) == 1
    assert len({folder_of(Path(), spec) for spec in specs}) == len(ids)


def cells(**axes: Any) -> tuple[RunSpec, ...]:
    return expand(Sweep(tasks=((TASK, axes.pop("variant", "default"), "val", SPEC.source),), **axes))


def test_a_sweep_is_every_task_on_every_checkpoint() -> None:
    points = tuple(dataclasses.replace(POINT, quant=quant) for quant in ("none", "4bit"))
    found = cells(checkpoints=points, limit=7, seed=3, batch=5)
    assert [spec.checkpoint.quant for spec in found] == ["none", "4bit"]
    assert {(spec.limit, spec.seed, spec.batch, spec.max_new_tokens) for spec in found} == {(7, 3, 5, 4)}


def test_what_a_task_does_not_offer_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown variant of fake 'defualt'; did you mean default"):
        cells(checkpoints=(POINT,), variant="defualt")
    with pytest.raises(UsageError, match=r"unknown mode of fake 'likelihood'.* Available: generate"):
        cells(checkpoints=(POINT,), mode="likelihood")
