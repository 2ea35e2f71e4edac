"""Where names lead, and what a broken name, package or file is told."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pgbench import backends, registry
from pgbench.errors import UsageError
from pgbench.types import Task

Install = Callable[..., None]

TASK_FILE = """
from dataclasses import dataclass
from pgbench.metrics.vqa import TEXTVQA_ACCURACY
from pgbench.types import Pixels, Task

@dataclass(frozen=True, slots=True)
class Own:
    x: int

TASK = Task(
    name={name!r}, version=1, title="a test", sources={{"files": print}}, splits={{"val": 1}},
    prompt=lambda sample, profile, variant: sample.question, gold=lambda sample: "",
    metrics=(TEXTVQA_ACCURACY,), pixels=Pixels(antialias=True, text_len=32), max_new_tokens=8,
    cite="", licence="",
)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with entry points and modules on the path, as pip would."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def add(dist: str, points: str, **modules: str) -> None:
        info = site / f"{dist.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(points)
        for name, text in modules.items():
            (site / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)

    return add


def write(path: Path, name: str = "mine") -> Path:
    path.write_text(TASK_FILE.format(name=name))
    return path


def shipped() -> list[str]:
    return [name for name, owner in registry.task_names().items() if owner == "pgbench"]


def test_shipped_tasks_are_the_files_of_the_tasks_folder() -> None:
    folder = Path(__file__).parent.parent / "tasks"
    assert shipped() == sorted(path.stem for path in folder.glob("[!_]*.py"))


def test_every_shipped_task_loads_under_its_file_name() -> None:
    for name in shipped():
        assert registry.load_task(name).name == name


def test_files_with_an_underscore_are_no_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "other_tasks"
    package.mkdir()
    for name in ("__init__", "_shared", "gqa"):
        (package / f"{name}.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "SHIPPED_TASKS", "other_tasks")
    assert shipped() == ["gqa"]
    monkeypatch.setattr(registry, "SHIPPED_TASKS", "no_such_tasks")
    with pytest.raises(UsageError, match="package no_such_tasks is not installed; install pgbench again"):
        registry.task_names()


def test_shipped_backends_are_those_of_the_seam() -> None:
    assert registry.backend_names() == dict.fromkeys(sorted(backends.SHIPPED), "pgbench")


def test_listing_names_imports_no_task_and_no_backend() -> None:
    code = (
        "import sys; from pgbench.registry import task_names, backend_names; task_names(), backend_names();"
        "print([m for m in sys.modules if m.startswith(('pgbench_tasks', 'pgbench.backends.'))])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_package_offers_a_task(install: Install) -> None:
    install(
        "my-tasks",
        "[pgbench.tasks]\nmine = my_task_module:TASK\n",
        my_task_module=TASK_FILE.format(name="mine"),
    )
    assert registry.task_names()["mine"] == "my-tasks 1.2"
    assert "my_task_module" not in sys.modules, "listing must import nothing"
    assert registry.load_task("mine").name == "mine"


def test_a_package_offers_a_backend(install: Install) -> None:
    install(
        "my-engine",
        "[pgbench.backends]\nfast = my_engine:engine\n",
        my_engine="def engine(request): return 7",
    )
    names = registry.backend_names()
    assert names["fast"] == "my-engine 1.2"
    assert list(names) == sorted(names)
    assert registry.load_backend("fast")(None) == 7  # type: ignore[arg-type, comparison-overlap]


def test_two_owners_of_a_name_are_both_named(install: Install) -> None:
    install("first-tasks", "[pgbench.tasks]\nmine = a:TASK\n")
    install("second-tasks", "[pgbench.tasks]\nmine = b:TASK\n")
    with pytest.raises(
        UsageError, match=r"named 'mine': (first|second)-tasks 1\.2 and (first|second)-tasks 1\.2"
    ):
        registry.task_names()


def test_a_package_cannot_take_the_name_of_a_shipped_backend(install: Install) -> None:
    install("my-engine", "[pgbench.backends]\noracle = a:engine\n")
    with pytest.raises(UsageError, match=r"named 'oracle': pgbench and my-engine 1\.2"):
        registry.load_backend("replay")


def test_a_name_that_cannot_be_typed_is_refused(install: Install) -> None:
    install("my-tasks", "[pgbench.tasks]\nMy-Task = a:TASK\n")
    with pytest.raises(
        UsageError, match=r"my-tasks 1\.2 offers a task named 'My-Task'; expected small letters"
    ):
        registry.task_names()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (TASK_FILE.format(name="other"), "task 'mine' of my-tasks 1.2 calls itself 'other'"),
        ("TASK = 3", "TASK is a int; expected a pgbench.types.Task"),
        ("", "has no TASK"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero (my_task_module.py, line 1)"),
    ],
)
def test_a_packages_broken_task_says_what_is_wrong(install: Install, module: str, message: str) -> None:
    install("my-tasks", "[pgbench.tasks]\nmine = my_task_module:TASK\n", my_task_module=module)
    with pytest.raises(UsageError) as caught:
        registry.load_task("mine")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("module", "message"), [("", "has no function engine"), ("engine = 3", "has no function engine")]
)
def test_a_packages_broken_backend_says_what_is_wrong(install: Install, module: str, message: str) -> None:
    install("my-engine", "[pgbench.backends]\nfast = my_engine:engine\n", my_engine=module)
    with pytest.raises(UsageError, match=message):
        registry.load_backend("fast")


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(
        UsageError, match=r"unknown backend 'orcale'; did you mean oracle\? Available: .*replay"
    ):
        registry.load_backend("orcale")
    with pytest.raises(UsageError, match=r"unknown task 'no_such'.*path of a \.py file"):
        registry.load_task("no_such")


def test_a_task_file_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = write(tmp_path / "my task.py")
    task = registry.load_task(str(path))
    assert isinstance(task, Task)
    assert task.name == "mine"
    assert task.prompt.__module__ in sys.modules
    assert registry.load_task(str(path)) is task, "one file, one module"
    monkeypatch.chdir(tmp_path)
    assert registry.load_task("my task.py") is task
    monkeypatch.setenv("HOME", str(tmp_path))
    assert registry.load_task("~/my task.py") is task
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["my task.py"], "no __pycache__ left behind"


def test_an_edited_task_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", "one")
    assert registry.load_task(str(path)).name == "one"
    assert registry.load_task(str(write(path, "two"))).name == "two"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "x = 1\nimport no_such_module\n",
            "ModuleNotFoundError: No module named 'no_such_module' (mine.py, line 2)",
        ),
        ("x = 1\n\nx = = 2\n", "SyntaxError: invalid syntax (mine.py, line 3)"),
        ("raise ValueError('a\\nb')\n", "ValueError: a b (mine.py, line 1)"),
        ("import sys\nsys.exit(0)\n", "SystemExit: 0 (mine.py, line 2)"),
        ("\0", "cannot be imported: "),
        ("TASK = {}", "TASK is a dict; expected a pgbench.types.Task"),
        ("task = 1", "has no TASK; expected TASK = pgbench.types.Task(...)"),
        (
            TASK_FILE.format(name="My Task"),
            "TASK.name is 'My Task'; expected small letters, digits and underscores",
        ),
        (TASK_FILE.format(name="mine-2"), "TASK.name is 'mine-2'"),
        (TASK_FILE.format(name="../up"), "TASK.name is '../up'"),
    ],
)
def test_a_broken_task_file_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    before = set(sys.modules)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"^task file ~/mine\.py"):
        registry.load_task("~/mine.py")
    with pytest.raises(UsageError) as caught:
        registry.load_task(str(path))
    said = str(caught.value)
    assert message in said
    assert f"task file {path}" in said
    assert "\n" not in said
    assert said.count(", line ") <= 1
    if "cannot be imported" in said:
        assert caught.value.__cause__ is not None
        assert not {name for name in set(sys.modules) - before if name.startswith("pgbench_task_")}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gone.py", "does not exist"),
        ("./gone.txt", "does not end in .py"),
        ("./folder.py", "is a folder"),
    ],
)
def test_a_path_that_is_no_task_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.py").mkdir()
    for ask in (registry.load_task, registry.task_digest):
        with pytest.raises(UsageError, match=message):
            ask(given)


def test_digests_are_of_the_source_files(tmp_path: Path, install: Install) -> None:
    path = write(tmp_path / "mine.py")
    assert registry.task_digest(str(path)) == hashlib.sha256(path.read_bytes()).hexdigest()
    install(
        "my-tasks",
        "[pgbench.tasks]\nmine = my_task_module:TASK\nlost = no_such_module:TASK\nfar = no.such:TASK\n",
        my_task_module="1/0",
    )
    assert registry.task_digest("mine") == hashlib.sha256(b"1/0").hexdigest(), "hashed without being imported"
    with pytest.raises(UsageError, match=r"no_such_module of my-tasks 1\.2 has no source file"):
        registry.task_digest("lost")
    with pytest.raises(UsageError, match=r"no\.such of my-tasks 1\.2 cannot be found: No module") as caught:
        registry.task_digest("far")
    assert isinstance(caught.value.__cause__, ImportError)
    folder = Path(__file__).parent.parent / "tasks"
    for name in shipped():
        assert registry.task_digest(name) == hashlib.sha256((folder / f"{name}.py").read_bytes()).hexdigest()
