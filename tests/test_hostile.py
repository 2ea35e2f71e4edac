"""Names and answers that would act if they could, through every command that writes."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import harmless
import planted
import pytest
import yaml

from pgbench import store
from pgbench.cli import invoke
from pgbench.records import Stack
from pgbench.types import DataSource, Sample

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    r"\input{/etc/passwd}",
    r"} \write18{id} \end{table} $x^2$ 50% & # ~",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd",
    "\x1b[31mred\x1b[0m\x07",
    "::error::x",
    "a\n::error file=x::y\r\n##[error]z",
    "\x00\x08\x0b\ufffe\uffff",
    "left \u202eright\u2066 \u200b",
    "]]></failure><!ENTITY x SYSTEM 'file:///etc/passwd'>&x;",
    "{{7*7}} {% import os %} ${7*7}",
    "| a | b |\n|---|---|\n[x](javascript:alert(1)) ![y](https://example.org/z.png) `code`",
    "--- \n- yaml: !!python/object/apply:os.system [id]",
    "\ud800 lone, 漢字, é",
)
NAMES = tuple(
    " ".join((first, *HOSTILE[i::5])) for i, first in enumerate(HOSTILE[k] for k in (0, 4, 7, 12, 14))
)
GROUP = HOSTILE[0] + HOSTILE[2] + HOSTILE[6]
FORMATS = ("eval-results", "model-index", "lm-eval", "every-eval-ever")
Command = Callable[..., str]


def samples(count: int, plain: bool) -> tuple[Sample, ...]:
    """Questions in whose ids, clusters and groups stands what is hostile."""
    found = planted.textvqa(count)
    if plain:
        return tuple(dataclasses.replace(one, groups={"kind": str(i % 2)}) for i, one in enumerate(found))
    return tuple(
        dataclasses.replace(
            one,
            id=f"{HOSTILE[i % len(HOSTILE)]} {i}",
            cluster=f"{HOSTILE[i // 2 % len(HOSTILE)]} {i // 2}",
            groups={GROUP: HOSTILE[i % len(HOSTILE)]},
            target=(*(one.target or ())[:9], HOSTILE[(i + 1) % len(HOSTILE)]),  # of ten people one
        )
        for i, one in enumerate(found)
    )


def plant(out: Path, *, plain: bool = False, worse: bool = False, failing: bool = False) -> Path:
    """Runs of each checkpoint name, one at 4bit as well: right on most, hostile on the rest."""
    asked = samples(32, plain)
    names = ("plain",) if plain else NAMES
    for number, (name, level) in enumerate([*((name, "none") for name in names), (names[0], "4bit")]):
        wrong = {
            one.id: "unlike" if plain else HOSTILE[i % len(HOSTILE)]
            for i, one in enumerate(asked[: 24 if worse else 6])
        }
        answers = {one.id: str((one.target or ("",))[0]) for one in asked} | wrong
        stack = Stack("paligemma", {**planted.VERSIONS, "torch": name}, device="cpu", device_name=name)
        planted.plant(
            out,
            asked,
            answers,
            planted.checkpoint(name, quant=level),
            failed={asked[-1].id: "no picture" if plain else " ".join(HOSTILE)} if failing else {},
            stack=dataclasses.replace(stack, weight_bytes=10**9 * (number + 1)),
            source=DataSource("hub", name, "d" * 40),
        )
    return out


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a failure in each run: what failed, and why, is hostile as well."""
    return plant(tmp_path_factory.mktemp("hostile"), failing=True)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def worse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(tmp_path_factory.mktemp("worse"), worse=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(tmp_path_factory.mktemp("plain"), plain=True, failing=True)


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command; what it prints is harmless, on both streams, whatever it writes elsewhere."""

    def carry_out(*arguments: object, code: int = 0) -> str:
        assert invoke([str(argument) for argument in arguments]) == code, capsys.readouterr().err
        out, err = capsys.readouterr()
        harmless.logged(err)
        return harmless.logged(out)

    return carry_out


def folders(runs: Path) -> Iterator[Path]:
    return (path.parent for path in sorted(runs.rglob("record.json")))


def test_the_records_hold_what_is_hostile(hostile: Path) -> None:
    records = [store.read_record(folder) for folder in folders(hostile)]
    assert {record.spec.checkpoint.id for record in records if record} == set(NAMES)
    assert all(record.failures for record in records if record)


@pytest.mark.parametrize("form", FORMATS)
def test_exports(form: str, hostile: Path, tmp_path: Path, told: Command) -> None:
    cards = form in ("eval-results", "model-index")  # which are of one checkpoint
    for number, folder in enumerate(folders(hostile) if cards else [hostile]):
        out = tmp_path / str(number) / "out"
        more = (
            "--anyway",
            "--organization",
            HOSTILE[0],
            "--source-url",
            HOSTILE[1],
            "--source-name",
            HOSTILE[13],
        )
        told("export", folder, "--format", form, "--out", out, *more)
        written = [path for path in (out, *out.parent.rglob("*")) if path.is_file()]
        assert written
        for path in written:
            assert tmp_path / str(number) in path.resolve().parents
            data = path.read_bytes()
            assert data.isascii()
            assert not set(data) & {*range(10), *range(11, 32), 127}
            _read_back(path, data, form)


def _read_back(path: Path, data: bytes, form: str) -> None:
    """Any parser finds the names again, as text."""
    if form in ("lm-eval", "every-eval-ever"):
        lines = data.splitlines() if path.suffix == ".jsonl" else [data]
        assert all(isinstance(json.loads(line), dict) for line in lines)
        return
    if form == "model-index":
        assert data.startswith(b"---\n")
        assert data.count(b"\n---\n") == 1
        (model,) = yaml.safe_load(data.strip(b"-\n"))["model-index"]
        assert model["results"][0]["dataset"]["type"] in NAMES
        return
    assert yaml.safe_load(data)[0]["dataset"]["id"] in NAMES


LAYOUTS = ((), ("--layout", "paper", "--methods"), ("--by", GROUP))


@pytest.mark.parametrize("layout", LAYOUTS, ids=("default", "paper", "by"))
@pytest.mark.parametrize("form", ["terminal", "markdown", "csv", "json", "latex", "html"])
def test_reports(
    form: str, layout: tuple[str, ...], hostile: Path, plain: Path, tmp_path: Path, told: Command
) -> None:
    if form == "csv":
        layout = tuple(flag for flag in layout if flag != "--methods")  # it has no place for sentences
    written, frame = tmp_path / f"report.{form}", tmp_path / "plain"
    told("report", hostile, "--format", form, *layout, "--out", written)
    if form in ("html", "latex"):
        told("report", plain, "--format", form, *(() if "--by" in layout else layout), "--out", frame)
    text = written.read_text(encoding="utf-8")
    _harmless(form, text, frame.read_text(encoding="utf-8") if frame.is_file() else "")
    if form == "latex" and "paper" in layout:
        harmless.compiled(LATEX.replace("TABLES", text), tmp_path)


LATEX = r"""\documentclass{article}
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage{rotating}
\begin{document}
TABLES
\end{document}
"""


def _harmless(form: str, text: str, frame: str) -> None:
    if form == "html":
        harmless.page(text, frame)
    elif form == "latex":
        harmless.tables(text, frame)
    elif form == "csv":
        harmless.sheet(text)
    elif form == "json":
        json.loads(text)
    elif form == "markdown":
        harmless.markdown(text)
    else:
        harmless.shown(text)


def test_figures(hostile: Path, plain: Path, tmp_path: Path, told: Command) -> None:
    told("report", hostile, "--format", "html", "--figures", "--paired", "--out", tmp_path / "page.html")
    told("report", plain, "--format", "html", "--out", tmp_path / "plain.html")
    text, frame = ((tmp_path / name).read_text(encoding="utf-8") for name in ("page.html", "plain.html"))
    harmless.page(text, frame)
    drawn = re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', text)
    assert len(drawn) > 1
    for code in drawn:
        harmless.drawing(base64.b64decode(code))


def test_comparisons(sound: Path, worse: Path, told: Command) -> None:
    one, two = next(folders(sound)), next(folders(worse))
    for both, word in (((one, two), "lost"), ((two, one), "gained")):
        said = told("compare", *both, "--by", GROUP, "--examples", 99)
        assert f", {word}: 18 of 18" in said
        assert r"\x1b[31mred" in said
        json.loads(told("compare", *both, "--by", GROUP, "--json"))
    told("compare", sound, worse)


def test_baselines(hostile: Path, tmp_path: Path, told: Command) -> None:
    path = tmp_path / "baseline.json"
    told("baseline", "save", hostile, "--out", path)
    assert len(json.loads(path.read_bytes())["runs"]) == len(NAMES) + 1


def test_checks(
    hostile: Path, sound: Path, worse: Path, tmp_path: Path, told: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    for before, after, code, what in ((sound, worse, 1, "failure"), (hostile, hostile, 3, "error")):
        both = ("check", "--baseline", before, "--candidate", after)
        written = ("--junit", tmp_path / "junit.xml", "--summary", tmp_path / "summary.md", "--github", "on")
        assert len(harmless.commands(told(*both, *written, code=code))) == len(NAMES) + 1
        json.loads(told(*both, "--json", "--github", "off", code=code))
        suites = harmless.junit((tmp_path / "junit.xml").read_bytes())
        assert len(list(suites.iter(what))) == len(NAMES) + 1
        for name in ("summary.md", "step.md"):
            harmless.markdown((tmp_path / name).read_text(encoding="utf-8"))


def test_a_hostile_place(sound: Path, worse: Path, tmp_path: Path, told: Command) -> None:
    """Folders are named by others too."""
    places = tmp_path / f"{HOSTILE[6]}<b>", tmp_path / "a\n::error::x"
    for place, runs in zip(places, (sound, worse), strict=True):
        place.symlink_to(runs)
    told("report", places[0])
    told("compare", *places)
    check = ("check", "--baseline", places[0], "--candidate", places[1], "--github", "on")
    harmless.commands(told(*check, code=1))
    told("baseline", "save", places[0], "--out", tmp_path / "kept.json")
    told("export", places[0], "--format", "lm-eval", "--out", tmp_path / "out", "--anyway")
