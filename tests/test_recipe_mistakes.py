"""Everything that is wrong with a sweep file is said at once, each with file, line and column."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pgbench.errors import UsageError
from pgbench.recipe.nodes import MOST_NODES
from pgbench.recipe.places import Mistakes
from pgbench.recipe.read import read

EIGHT = """\
checkpoints:
  - google/paligemma2-3b-mix-{px}
  - runs/checkpoint-*
quant: [none, 5bit]
defaults:
  limit: 1:30
  seed: 1
  seed: 2
tasks:
  - textvqq
  - {task: gqa, split: 2026-11-21}
  - {task: mmvp, variant: sideways}
batch_sise: 4
"""
PLANTED = {
    "2:5": "there are no resolutions",
    "3:5": "no folder matches 'runs/checkpoint-*'",
    "4:15": "got '5bit'; expected none | 8bit | 4bit | fp4",
    "6:10": "got '1:30' (YAML 1.1 reads it as a number to base 60",
    "8:3": "key 'seed' stands twice, first at",
    "10:5": "unknown task 'textvqq'; did you mean textvqa?",
    "11:24": "got '2026-11-21' (YAML reads it as a date",
    "12:27": "unknown variant of mmvp 'sideways'",
    "13:1": "unknown key 'batch_sise'",
}
ONE = "checkpoints: [tiny-gemma2]\n"
GOOD = f"{ONE}tasks: [textvqa]\n"


def lines(tmp_path: Path, text: str, **overrides: object) -> list[str]:
    """The mistakes of a file, its folder taken from their places."""
    path = tmp_path / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Mistakes) as caught:
        read(path, overrides)
    assert all(line.isprintable() for line in caught.value.lines)
    return [line.replace(f"{tmp_path}/", "") for line in caught.value.lines]


def test_every_planted_mistake_is_reported_with_its_place(tmp_path: Path) -> None:
    found = lines(tmp_path, EIGHT)
    places = [line.removeprefix("sweep.yaml:").split(": ")[0] for line in found]
    assert places == list(PLANTED)
    assert len(places) >= 8
    for line, text in zip(found, PLANTED.values(), strict=True):
        assert text in line


def test_the_message_counts_and_lists_them(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(EIGHT)
    with pytest.raises(UsageError) as caught:
        read(path)
    first, *rest = str(caught.value).split("\n")
    assert first == f"{path}: {len(PLANTED)} mistakes"
    assert len(rest) == len(PLANTED)


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        # shape
        ("", "1:1", "expected a mapping"),
        ("[1]", "1:1", "expected a mapping"),
        (f"{GOOD}limit: 5", "3:1", "key 'limit' is an option; write it under defaults:"),
        (f"{ONE}tasks: textvqa", "2:8", "got 'textvqa'; expected a list of tasks"),
        (f"{ONE}tasks: [{{split: val}}]", "2:9", "task is missing; expected a task's name"),
        (f"{GOOD}quant: []", "3:8", "got []; expected a list of none | 8bit | 4bit | fp4"),
        (f"{GOOD}defaults: {{batch_size: 0}}", "3:24", "got 0; expected samples a batch"),
        (f"{GOOD}defaults: {{batch_size: '4'}}", "3:24", "got '4'; expected samples a batch"),
        (f"{GOOD}defaults: {{split: 12}}", "3:19", "got 12; expected a split of the task, as text; quote it"),
        (f"{GOOD}defaults: {{device: gpu}}", "3:20", "expected auto | cpu | cuda | cuda:N"),
        (f'{GOOD}defaults: {{split: "a\\tb"}}', "3:19", "got 'a\\tb'; expected a split"),
        (f'{GOOD}replicates: {{"a\\eb": [tiny-gemma]}}', "3:14", "a name that is empty or cannot be printed"),
        # false friends
        (f"{GOOD}defaults: {{split: no}}", "3:19", "got 'no' (YAML reads it as false"),
        (f"{GOOD}defaults: {{split: on}}", "3:19", "got 'on' (YAML reads it as true"),
        (f"{GOOD}defaults: {{seed: 1e-3}}", "3:18", "YAML 1.1 reads it as text, YAML 1.2 as a number"),
        (f"{GOOD}defaults: {{seed: 0123}}", "3:18", "as an octal number"),
        (f"{GOOD}defaults: {{seed: 0x1F}}", "3:18", "write it in plain decimal digits"),
        (f"{GOOD}defaults: {{seed: 1_000}}", "3:18", "write it in plain decimal digits"),
        (f"{GOOD}defaults: {{seed: 1.5}}", "3:18", "a number with a fraction"),
        (f"{GOOD}defaults: {{split: ~}}", "3:19", "got '~' (YAML reads it as null"),
        (f"{GOOD}defaults: {{split: }}", "3:18", "got nothing (YAML reads it as null"),
        (f"{GOOD}no: 1", "3:1", "key 'no' (YAML reads it as false"),
        # YAML itself
        (f"{GOOD}tasks: [gqa]", "3:1", "key 'tasks' stands twice, first at"),
        (f"{GOOD}defaults: {{<<: {{seed: 1}}}}", "3:12", "merge keys (<<) are not used"),
        (f"{GOOD}defaults: !!python/object:os.system {{}}", "3:11", "tags are not used"),
        (f"{GOOD}defaults: {{seed: !!int '3'}}", "3:18", "tags are not used"),
        (f"{GOOD}defaults: {{split: !%1b[31m x}}", "3:19", "(the tag '!\\x1b[31m'; tags are not used"),
        (f"{GOOD}defaults: *nowhere", "3:11", "no YAML: found undefined alias"),
        (f"{GOOD}defaults: &a {{seed: *a}}", "3:11", "nested too deeply, or an alias inside itself"),
        (f"{GOOD}defaults: [", "3:12", "no YAML"),
        ("checkpoints: [a/b-{px}]\n", "1:19", "got '{'; inside [ ] quote what has {px} in it"),
        (f"{GOOD}---\n{GOOD}", "3:1", "no YAML: expected a single document"),
        (f"{GOOD}# \x07", "3:3", "no YAML: a character that may not be printed"),
        ("a: " + "[" * 5000, "1:1", "nested too deeply"),
        # what is named
        ("tasks: [textvqa]", "1:1", "no checkpoint; expected a hub id"),
        (ONE, "1:1", "there are no tasks"),
        (f"{ONE}tasks: [./no.py]", "2:9", "no.py does not exist"),
        (f"{ONE}tasks: [~nobody-at-all/x.py]", "2:9", "there is no such user"),
        ("checkpoints: [tiny-gema]\ntasks: [gqa]", "1:15", "unknown checkpoint 'tiny-gema'; did you mean"),
        ("checkpoints: ['a/b-{size}']\ntasks: [gqa]", "1:15", "unknown placeholder '{size}'; expected {px}"),
        ("checkpoints: [{model: tiny-gemma, revision: main}]\ntasks: [gqa]", "1:45", "has none"),
        (f"{ONE}tasks: [{{task: gqa, split: tset}}]", "2:28", "unknown split of gqa 'tset'"),
        (f"{ONE}tasks: [{{task: gqa, source: disk}}]", "2:29", "unknown source of gqa 'disk'"),
        (f"{ONE}tasks: [{{task: gqa, metric: bleurt}}]", "2:29", "unknown metric of gqa 'bleurt'"),
        (f"{ONE}tasks: [{{task: gqa, official_seed: 1}}]", "2:36", "no official script that guesses"),
        (f"{GOOD}defaults: {{backend: vllm}}", "3:21", "unknown backend 'vllm'"),
        (f"{GOOD}defaults: {{backend: oracle}}", "3:21", "the backend oracle loads no checkpoint"),
        ("defaults: {backend: replay}\ntasks: [gqa]", "1:21", "needs predictions:"),
        (f"{GOOD}defaults: {{predictions: a.json}}", "3:25", "predictions go with backend: replay"),
        # axes
        (f"{GOOD}resolutions: [224]", "3:1", "no checkpoint has {px} in it"),
        (f"{GOOD}dtypes: [float32]\ndefaults: {{dtype: float16}}", "4:19", "stands beside dtypes"),
        ("checkpoints: [{model: tiny-gemma, resolutions: [8]}]\ntasks: [gqa]", "1:35", "has {px} in it"),
        (f"{GOOD}exclude: [{{task: gqa}}]", "3:11", "no cell is like this"),
        (f"{GOOD}exclude: [{{}}]", "3:11", "an empty mapping"),
        (f"{GOOD}exclude: [{{task: '*'}}]", "3:1", "exclude takes away every cell"),
        # twice
        (f"{ONE}tasks: [gqa, textvqa, gqa]", "2:23", "asks for a cell that sweep.yaml:2:9 asks for already"),
        (f"{GOOD}quant: [4bit, 4bit]", "3:15", "asks for a cell that sweep.yaml:3:9 asks for already"),
        (f"{GOOD}dtypes: [float32, float32]", "3:19", "that sweep.yaml:3:10 asks"),
        ("checkpoints: [a/b, a/b]\ntasks: [gqa, textvqa]", "1:20", "that sweep.yaml:1:15 asks for already"),
        ("checkpoints: ['a/{px}']\nresolutions: [8, 8]\ntasks: [gqa]", "2:18", "that sweep.yaml:2:15 asks"),
        (f"{GOOD}include: [{{task: textvqa, model: tiny-gemma2}}]", "3:11", "that sweep.yaml:1:15 asks"),
        (f"{ONE}tasks: [gqa, {{task: gqa, split: testdev}}]", "2:14", "that sweep.yaml:2:9 asks"),
        (
            f"{ONE}tasks: [{{task: gqa, vraiant: x}}, gqa]",
            "2:21",
            "unknown key 'vraiant'; did you mean variant",
        ),
        (f"{GOOD}exclude: [{{task: textvqa, qant: 4bit}}]", "3:27", "unknown key 'qant'; did you mean quant"),
        # replicates
        (f"{GOOD}replicates: {{a: [tiny-gemma], b: [tiny-gemma]}}", "3:35", "stands in 'a' already, at"),
        (f"{GOOD}replicates: {{a: ['o/n-{{px}}']}}\nresolutions: [8]", "3:18", "a recipe of its own"),
    ],
)
def test_one_mistake_at_its_place(text: str, place: str, part: str, tmp_path: Path) -> None:
    found = lines(tmp_path, text)
    assert len(found) == 1, found
    assert found[0].startswith(f"sweep.yaml:{place}: ")
    assert part in found[0]


def test_an_alias_bomb_is_refused(tmp_path: Path) -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefg", "bcdefgh", strict=True)
    )
    assert f"more than {MOST_NODES:,}" in lines(tmp_path, bomb)[0]


def test_too_many_cells_are_refused_before_they_are_made(tmp_path: Path) -> None:
    text = "checkpoints:\n" + "".join(f"  - a/b{n}\n" for n in range(3001)) + "tasks: [gqa]\n"
    assert "12,004 cells; at most 10,000" in lines(tmp_path, f"{text}quant: [none, 8bit, 4bit, fp4]")[0]


def test_mistakes_of_a_base_are_told_at_its_own_place(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("defaults:\n  seed: yes\ntasks: [textvqq]\n")
    found = lines(tmp_path, f"extends: base.yaml\n{ONE}defaults: {{limt: 5}}\n")
    assert [line.split(": ")[0] for line in found] == ["base.yaml:2:9", "base.yaml:3:9", "sweep.yaml:3:12"]


@pytest.mark.parametrize(
    ("base", "part"),
    [
        ("extends: sweep.yaml\n", "base.yaml:1:10: extends: a circle, sweep.yaml -> base.yaml -> sweep.yaml"),
        ("extends: base.yaml\n", "base.yaml:1:10: extends: a circle"),
        ("extends: gone.yaml\n", "base.yaml:1:10: there is no file"),
        ("extends: [a, b]\n", "sweep.yaml:1:1"),
        ("tasks: [", "base.yaml:1:9: no YAML"),
    ],
)
def test_a_base_that_cannot_be_used(base: str, part: str, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(base)
    text = GOOD if base.startswith("extends: [") else f"extends: base.yaml\n{GOOD}"
    if base.startswith("extends: ["):
        text, part = f"{base}{GOOD}", "sweep.yaml:1:10: extends: got a list; expected another sweep file"
    assert [line for line in lines(tmp_path, text) if part in line]


def test_a_long_chain_is_cut(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {number + 1}.yaml\n")
    assert "more than 10 files in a row" in lines(tmp_path, f"extends: 0.yaml\n{GOOD}")[0]


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ({"quant": ["5bit"]}, "flags: quant: got '5bit'"),
        ({"limit": 0}, "flags: limit: got 0"),
        ({"limt": 3}, "flags: unknown flag 'limt'; did you mean limit or"),
        ({"tasks": ["textvqq"]}, "flags: unknown task 'textvqq'"),
        ({"dtypes": ["float32"], "dtype": "float16"}, "flags: dtype: stands beside dtypes"),
        ({"tasks": ["./gqa"]}, "flags: task file ./gqa does not end in .py"),
        ({"seed": True}, "flags: seed: got 'True' (a bool)"),
    ],
)
def test_mistakes_of_flags_and_file_come_together(
    overrides: dict[str, object], part: str, tmp_path: Path
) -> None:
    first, second = lines(tmp_path, f"{GOOD}bath: 1\n", **overrides)
    assert first.startswith(part)
    assert second.startswith("sweep.yaml:3:1: unknown key 'bath'")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"#" * (1 << 21), b"\x00", b"a: \xed\xa0\x80"])
def test_files_that_are_no_text(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x\x1b[31m.yaml"
    path.write_bytes(content)
    with pytest.raises(Mistakes) as caught:
        read(path)
    assert all(line.isprintable() for line in str(caught.value).split("\n"))


@pytest.mark.parametrize("name", ["gone.yaml", ".", "x" * 300, "a\0b"])
def test_paths_that_cannot_be_opened(name: str, tmp_path: Path) -> None:
    with pytest.raises(Mistakes, match=r"no file|cannot be read"):
        read(tmp_path / name)


_KEYS = [
    *(
        "checkpoints",
        "tasks",
        "quant",
        "dtypes",
        "resolutions",
        "include",
        "exclude",
        "replicates",
        "extends",
    ),
    *("defaults", "model", "task", "limit", "split", "<<", "no", "backend", "predictions"),
]
_WORDS = st.sampled_from(
    [
        "textvqa",
        "gqa",
        "tiny-gemma",
        "a/b-{px}",
        "*",
        "./x*",
        "~",
        "~x/y",
        "4bit",
        "none",
        "no",
        "1e-3",
        "/",
        ".py",
    ]
)
_LEAVES = _WORDS | st.integers() | st.text(max_size=8) | st.booleans() | st.none() | st.floats()
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS) | _WORDS, inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=6))
def test_any_document_gives_cells_or_mistakes(folder: Path, document: dict[str, object]) -> None:
    import yaml

    path = folder / "sweep.yaml"
    path.write_text(yaml.dump(document, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    cells_or_mistakes(path)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.characters() | st.sampled_from(list("\n :-[]{}&*!|>'\"%@#,?<~")), max_size=200))
@example("%YAML 1." + "1" * 5000 + "\n---\na: 1")
@example('a: "\\UFFFFFFFF"')
@example("? [a, b]\n: c")
@example("a: !!binary x")
def test_any_text_gives_cells_or_mistakes(folder: Path, text: str) -> None:
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    cells_or_mistakes(path)


def cells_or_mistakes(path: Path) -> None:
    """Nothing else may happen, and nothing that steers a terminal is said."""
    said: tuple[str, ...] = ("fine",)
    try:
        read(path)
    except Mistakes as error:
        said = error.lines
    assert said
    assert all(line.isprintable() for line in said)
