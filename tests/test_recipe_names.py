"""Names that a sweep file may hold and that would do harm as paths, in a shell or on a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_specs import HARMLESS, HOSTILE

from pgbench.cli import invoke
from pgbench.recipe.places import Mistakes
from pgbench.recipe.read import read
from pgbench.store import folder_of
from pgbench.sweeping.opening import open_cell

NAMES = ["; rm -rf $(echo x)", "..; x", "-rf", "a'b\"c", "$HOME `x` | y", "图像", "...", "C:x"]


def written(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
    return path


@pytest.mark.parametrize("name", NAMES)
def test_run_folders_stay_below_the_output(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    answers = written(tmp_path / "in" / f"{name}.json", [{"question_id": "010000-text", "answer": "x"}])
    entry = {"task": "textvqa", "source": "demo", "backend": "replay", "predictions": answers.name}
    sweep = written(tmp_path / "in" / "sweep.yaml", {"tasks": [entry], "replicates": {}})
    (asked,) = read(sweep)
    assert asked.model.predictions == str(answers)
    cell, _ = open_cell(asked)
    folder = folder_of(tmp_path / "out", cell.spec)
    assert folder.resolve().is_relative_to(tmp_path / "out")
    assert set("".join(folder.relative_to(tmp_path / "out").parts)) <= HARMLESS


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("key", ["checkpoints", "tasks", "replicates", "extends", "data"])
def test_hostile_names_are_refused_in_plain_lines_or_stay_names(key: str, name: str, tmp_path: Path) -> None:
    document: dict[str, object] = {"checkpoints": ["tiny-gemma"], "tasks": ["gqa"]}
    if key == "data":
        document["defaults"] = {"data": name}
    else:
        document[key] = {name: ["a/b"]} if key == "replicates" else name if key == "extends" else [name]
    lines: tuple[str, ...] = ()
    try:
        found = read(written(tmp_path / "sweep.yaml", document))
    except Mistakes as error:
        lines, found = error.lines, ()
    assert all(line.isprintable() for line in lines)
    assert found or lines
    for cell in found:
        said = f"{cell.task}{cell.model.model}{cell.data.path}{cell.replicate}"
        assert said.isprintable()
    assert list(tmp_path.iterdir()) == [tmp_path / "sweep.yaml"]


def test_the_command_says_every_mistake_on_a_line_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text('tasks: ["\\e[31m", gqqa]\ncheckpoints: [tiny-gema]\n')
    assert invoke(["sweep", str(sweep), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    first, *lines = said.splitlines()
    assert first == f"pgbench: {sweep}: 3 mistakes"
    assert [line.split(": ")[0].removeprefix(f"{sweep}:") for line in lines] == ["1:9", "1:19", "2:15"]
    assert said.replace("\n", "").isprintable()
    assert not (tmp_path / "out").exists()
