"""The pages name commands and flags that exist, and files that are there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pgbench.cli import invoke

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = (
    "demo",
    "run",
    "tasks",
    "show",
    "data",
    "fetch",
    "score",
    "submit",
    "published",
    "nes",
    "rescore",
    "sweep",
    "status",
    "merge",
    "plan",
    "export",
    "check",
    "compare",
    "baseline",
    "report",
    "doctor",
    "bench",
)
OTHERS = {"--help", "--editable"}  # of pgbench itself, of pip
PYTEST = {f"--pgbench-{name}" for name in ("baseline", "candidate", "rules", "strict")}  # of the plugin
CLUSTERS = set("--head --port --generate --parsable --dependency --wrap".split())  # of ray, of sbatch


@pytest.fixture
def flags(capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Every flag of every command, as its help prints it."""
    found = OTHERS | CLUSTERS | PYTEST
    nes = (["nes", name] for name in ("sheet", "score", "judge"))
    nested = [["data", "check"], ["baseline", "save"], *nes]
    for command in ([], *nested, *([name] for name in COMMANDS)):
        assert invoke([*command, "--help"]) == 0
        found |= set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    return found


def code(page: Path) -> str:
    """The fenced and the inline code of a page."""
    text = re.sub(r"(?m)^#SBATCH .*$", "", page.read_text(encoding="utf-8"))
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, flags=re.DOTALL))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_exists(page: Path, flags: set[str]) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z](?![\w-])", code(page)))
    assert named <= flags, f"{page.name} names {sorted(named - flags)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists(page: Path) -> None:
    named = set(re.findall(r"(?m)^`?(?:python -m )?pgbench ([a-z]+)", code(page)))
    assert named <= set(COMMANDS)


def test_every_command_is_in_the_readme() -> None:
    assert [name for name in COMMANDS if f"pgbench {name}" not in code(PAGES[0])] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_task_of_the_page_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "adding-a-task.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "colours.py").write_text(example)
    run = ["run", "--task", str(tmp_path / "colours.py"), "--out", str(tmp_path / "out"), "--json"]
    assert invoke([*run, "--backend", "oracle"]) == 0
    record = json.loads(capsys.readouterr().out)["record"]
    assert (record["scores"]["accuracy"]["value"], record["scores"]["accuracy"]["n"]) == (1.0, 2)
    assert invoke([*run, "--model", "tiny-gemma2", "--dtype", "float32"]) == 0
    record = json.loads(capsys.readouterr().out)["record"]
    assert (record["status"], record["scores"]["accuracy"]["n"]) == ("complete", 2)


def test_the_rooms_of_the_architecture_page_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text[text.index("| floor |") : text.index("`tasks/` is installed")]
    rooms = re.findall(r"`([a-z_]+(?:\.py|/)?)`", table)
    assert len(rooms) > 12
    names = [(room, f"{room}.py") for room in rooms]
    assert [a for a, b in names if not any((ROOT / "pgbench" / name).exists() for name in (a, b))] == []
