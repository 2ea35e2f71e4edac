"""From a sweep file or flags to cells: axes, layers, globs, replicates, includes and excludes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgbench.recipe.asked import AskedCell
from pgbench.recipe.cells import grouped
from pgbench.recipe.read import read
from pgbench.types import DataRequest, ModelRequest

PAGE = Path(__file__).parents[1] / "docs" / "sweeps.md"


def cells(tmp_path: Path, text: str, **overrides: object) -> tuple[AskedCell, ...]:
    path = tmp_path / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return read(path, overrides)


def brief(found: tuple[AskedCell, ...]) -> list[str]:
    """model quant dtype task, of a folder its name only."""
    return [
        f"{Path(str(one.model.model)).name} {one.model.quant} {one.model.dtype} {one.task}" for one in found
    ]


def test_a_cell_is_what_run_would_run(tmp_path: Path) -> None:
    (found,) = cells(tmp_path, "checkpoints: [tiny-gemma]\ntasks: [gqa]\n")
    assert found == AskedCell(
        "gqa", ModelRequest("tiny-gemma"), DataRequest(""), where="sweep.yaml:1 x sweep.yaml:2"
    )


def test_the_axes_are_multiplied_checkpoint_by_checkpoint(tmp_path: Path) -> None:
    text = "checkpoints: ['a/b-{px}', tiny-gemma]\nresolutions: [224, 448]\nquant: [none, 4bit]\n"
    found = brief(cells(tmp_path, f"{text}dtypes: [float32, float16]\ntasks: [gqa, mmvp]\n"))
    assert found == [
        f"{model} {quant} {dtype} {task}"
        for model in ("b-224", "b-448", "tiny-gemma")
        for quant in ("none", "4bit")
        for dtype in ("float32", "float16")
        for task in ("gqa", "mmvp")
    ]


def test_what_is_said_later_counts(tmp_path: Path) -> None:
    text = """
defaults: {limit: 1, seed: 1, batch_size: 1, max_failures: 1, threads: 2, device: cpu}
checkpoints: [{model: tiny-gemma, seed: 2, batch_size: 2, max_failures: 2}]
tasks: [{task: gqa, batch_size: 3, max_failures: 3, split: validation, limit: all}]
"""
    (found,) = cells(tmp_path, text, max_failures=4)
    assert (found.limit, found.seed, found.batch, found.max_failures) == (None, 2, 3, 4)
    assert (found.model.threads, found.model.device, found.data.split) == (2, "cpu", "validation")


def test_every_option_reaches_its_cell(tmp_path: Path) -> None:
    text = """
defaults: {data: d, data_id: o/d, data_revision: r, metric: exact_match, official_seed: 3,
  prompt_style: official, source: hub, split: val, variant: first}
checkpoints: [{model: a/b, revision: v1, protocol: paper, pixels_from: 224}]
tasks: [mmmu]
"""
    (found,) = cells(tmp_path, text)
    assert found.data == DataRequest("val", str(tmp_path / "d"), "o/d", "r")
    assert (found.metric, found.official_seed, found.source, found.variant) == (
        "exact_match",
        3,
        "hub",
        "first",
    )
    assert (found.model.style, found.model.revision) == ("official", "v1")
    assert (found.model.protocol, found.model.pixels_from) == ("paper", 224)


@pytest.mark.parametrize(
    ("text", "overrides", "dtypes"),
    [
        ("", {}, ["bfloat16"]),
        ("defaults: {dtype: float16}\n", {}, ["float16"]),
        ("dtypes: [float32, float16]\n", {}, ["float32", "float16"]),
        ("dtypes: [float32, float16]\n", {"dtype": "bfloat16"}, ["bfloat16"]),
        ("defaults: {dtype: float16}\n", {"dtypes": ["float32"]}, ["float32"]),
    ],
)
def test_the_nearest_dtype_counts(
    text: str, overrides: dict[str, object], dtypes: list[str], tmp_path: Path
) -> None:
    found = cells(tmp_path, f"{text}checkpoints: [a/b]\ntasks: [gqa]\n", **overrides)
    assert [one.model.dtype for one in found] == dtypes


def test_axes_of_a_checkpoint_take_the_place_of_the_sweeps(tmp_path: Path) -> None:
    text = """
quant: [none, 4bit]
dtypes: [float32]
resolutions: [448]
checkpoints:
  - {model: "a/b-{px}", quant: [8bit], dtypes: [float16], resolutions: [224]}
  - a/c-{px}
tasks: [gqa]
"""
    found = brief(cells(tmp_path, text))
    assert found == ["b-224 8bit float16 gqa", "c-448 none float32 gqa", "c-448 4bit float32 gqa"]
    found = brief(cells(tmp_path, text, quant=["fp4"], dtypes=["bfloat16"]))
    assert found == ["b-224 fp4 bfloat16 gqa", "c-448 fp4 bfloat16 gqa"]


def test_globs_are_relative_to_the_file_and_sorted_as_people_count(tmp_path: Path) -> None:
    for name in ("checkpoint-10", "checkpoint-9", "checkpoint-100", ".checkpoint-1"):
        (tmp_path / "odd [1]" / "runs" / name).mkdir(parents=True)
    (tmp_path / "odd [1]" / "runs" / "checkpoint-1").write_text("no folder")
    found = cells(tmp_path / "odd [1]", "checkpoints: [runs/checkpoint-*]\ntasks: [gqa]\n")
    runs = tmp_path / "odd [1]" / "runs"
    assert [one.model.model for one in found] == [str(runs / f"checkpoint-{n}") for n in (9, 10, 100)]


def test_a_folder_is_never_taken_for_a_shipped_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-gemma").mkdir()
    Path("s.yaml").write_text("checkpoints: [./tiny-gemma, tiny-gemma, ./tiny-*2]\ntasks: [./gqa.py]\n")
    (tmp_path / "tiny-gemma2").mkdir()
    task = (Path(__file__).parents[1] / "tasks" / "gqa.py").read_text()
    (tmp_path / "gqa.py").write_text(task)
    found = read(Path("s.yaml"))
    assert [one.model.model for one in found] == ["./tiny-gemma", "tiny-gemma", "./tiny-gemma2"]
    assert {one.task for one in found} == {"gqa.py"}


def test_replicates_name_and_add_checkpoints(tmp_path: Path) -> None:
    for name in ("seed-1", "seed-2", "seed-10"):
        (tmp_path / name).mkdir()
    text = """
checkpoints: [{model: seed-2, batch_size: 3}, tiny-gemma]
tasks: [gqa]
include: [{task: mmvp, model: ./seed-1}]
replicates: {mine: [seed-*], "theirs-{px}": ["o/n-{px}", "o/m-{px}"]}
resolutions: [224]
"""
    found = cells(tmp_path, text)
    assert [(Path(str(one.model.model)).name, one.task, one.batch, one.replicate) for one in found] == [
        ("seed-2", "gqa", 3, "mine"),
        ("tiny-gemma", "gqa", 8, None),
        ("seed-1", "gqa", 8, "mine"),
        ("seed-1", "mmvp", 8, "mine"),
        ("seed-10", "gqa", 8, "mine"),
        ("n-224", "gqa", 8, "theirs-224"),
        ("m-224", "gqa", 8, "theirs-224"),
    ]
    found = cells(tmp_path, text, checkpoints=["o/n-224"])
    assert [(one.model.model, one.replicate) for one in found[:1]] == [("o/n-224", "theirs-224")]
    assert [one.task for one in found] == ["gqa", "mmvp"]


def test_backends_without_a_model_are_not_multiplied(tmp_path: Path) -> None:
    text = "quant: [none, 4bit]\ncheckpoints: [a/b, {backend: oracle}]\ntasks: [gqa]\n"
    found = cells(tmp_path, text)
    assert [(one.backend, one.model.model, one.model.quant) for one in found] == [
        ("paligemma", "a/b", "none"),
        ("paligemma", "a/b", "4bit"),
        ("oracle", None, "none"),
    ]
    (found_alone,) = cells(tmp_path, "tasks: [gqa]\ndefaults: {backend: oracle}\n")
    assert (found_alone.backend, found_alone.model.model) == ("oracle", None)


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ("task: gqa", ["b mmvp none", "b mmvp 4bit", "c mmvp none", "c mmvp 4bit"]),
        (
            "task: g*, quant: 4bit",
            [*("b gqa none", "b mmvp none", "b mmvp 4bit"), *("c gqa none", "c mmvp none", "c mmvp 4bit")],
        ),
        ("model: a/*", ["c gqa none", "c mmvp none", "c gqa 4bit", "c mmvp 4bit"]),
        ("model: ./c", ["b gqa none", "b mmvp none", "b gqa 4bit", "b mmvp 4bit"]),
        (
            "split: testdev, model: c",
            [*("b gqa none", "b mmvp none", "b gqa 4bit", "b mmvp 4bit"), *("c mmvp none", "c mmvp 4bit")],
        ),
        ("batch_size: 2, limit: all", ["c gqa none", "c mmvp none", "c gqa 4bit", "c mmvp 4bit"]),
        ("data: d", ["c gqa none", "c mmvp none", "c gqa 4bit", "c mmvp 4bit"]),
    ],
)
def test_excludes_take_away_what_is_like_them(exclude: str, left: list[str], tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    text = f"""
checkpoints: [{{model: a/b, batch_size: 2, data: d}}, c]
quant: [none, 4bit]
tasks: [gqa, mmvp]
exclude: [{{{exclude}}}]
"""
    found = [
        f"{Path(str(one.model.model)).name} {one.task} {one.model.quant}" for one in cells(tmp_path, text)
    ]
    assert sorted(found) == sorted(left)


def test_extends_joins_mappings_and_replaces_lists(tmp_path: Path) -> None:
    (tmp_path / "low").mkdir()
    (tmp_path / "low" / "base.yaml").write_text(
        "defaults: {seed: 1, data: d}\ncheckpoints: [a/b]\ntasks: [gqa]\n"
    )
    (tmp_path / "mid.yaml").write_text("extends: low/base.yaml\ndefaults: {limit: 5}\n")
    (found,) = cells(tmp_path, "extends: mid.yaml\ndefaults: {seed: 2}\ntasks: [mmvp]\n")
    assert (found.task, found.seed, found.limit) == ("mmvp", 2, 5)
    assert found.data.path == str(tmp_path / "low" / "d")  # relative to the file that says it
    assert found.where == "base.yaml:2 x sweep.yaml:3"


def test_flags_alone_are_a_sweep() -> None:
    found = read(
        None, {"checkpoints": ["tiny-gemma", "a/b"], "tasks": ["gqa"], "quant": ["none", "4bit"], "limit": 3}
    )
    assert brief(found) == [
        f"{model} {quant} bfloat16 gqa" for model in ("tiny-gemma", "b") for quant in ("none", "4bit")
    ]
    assert {one.limit for one in found} == {3}
    assert {one.where for one in found} == {"flags"}


def test_flags_that_narrow_a_file_leave_its_excludes_alone(tmp_path: Path) -> None:
    text = (
        "checkpoints: [a/b]\ntasks: [gqa, mmvp]\nquant: [none, 4bit]\nexclude: [{task: mmvp, quant: 4bit}]\n"
    )
    assert brief(cells(tmp_path, text, tasks=["gqa"], quant=["4bit"])) == ["b 4bit bfloat16 gqa"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"))))
def test_cells_of_one_checkpoint_stand_together(pairs: list[tuple[str, str]]) -> None:
    given_cells = [AskedCell(task, ModelRequest(model), DataRequest("")) for model, task in pairs]
    found = grouped(given_cells)
    assert sorted(found, key=repr) == sorted(given_cells, key=repr)
    runs = [one.model for n, one in enumerate(found) if n == 0 or found[n - 1].model != one.model]
    assert runs == list(dict.fromkeys(one.model for one in given_cells))


def test_the_example_of_the_page_is_a_sweep(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    for name in ("lora/checkpoint-9", "lora/checkpoint-10", "seed-1", "seed-2"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    found = brief(cells(tmp_path, example))
    assert len(found) == 2 * 2 * 3 + 2 * 3 + 2 * 2 * 3 + 2 * 2 * 3 + 2 - 2
    assert found[:3] == [f"paligemma2-3b-mix-224 none bfloat16 {task}" for task in ("textvqa", "gqa", "pope")]
    assert "paligemma2-10b-mix-448 8bit bfloat16 gqa" not in found
    assert "paligemma2-3b-mix-224 4bit bfloat16 pope" not in found
    assert found[-1] == "None none bfloat16 textvqa"


def test_the_page_names_every_key() -> None:
    from pgbench.recipe.shape import CheckpointEntry, Match, SweepFile

    page = PAGE.read_text(encoding="utf-8")
    names = {*SweepFile.model_fields, *CheckpointEntry.model_fields, *Match.model_fields} - {"resolution"}
    assert [name for name in sorted(names) if f"`{name}`" not in page and f"`{name}:`" not in page] == []
