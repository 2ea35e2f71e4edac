"""Names to tasks and backends: shipped ones, those of installed packages, and files given by path.

A shipped task is a file of the package `pgbench_tasks`; its file name is its name. Other packages offer
theirs by entry points of the groups `pgbench.tasks` ("module:TASK") and `pgbench.backends`
("module:function", an EngineFactory). Listing names imports none of them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Literal, TypeAlias

from pgbench import backends
from pgbench.backends import EngineFactory
from pgbench.errors import UsageError, told, unknown
from pgbench.types import Task

if TYPE_CHECKING:
    from importlib.abc import Loader

Noun: TypeAlias = Literal["task", "backend"]

SHIPPED_TASKS = "pgbench_tasks"
SHIPPED = "pgbench"  # who owns them, as `task_names` says it
GROUPS: Mapping[Noun, str] = {"task": "pgbench.tasks", "backend": "pgbench.backends"}
NAME = re.compile(r"[a-z0-9_]+")
BY_PATH = "; or give the path of a .py file that exports TASK"


@dataclass(frozen=True, slots=True)
class Entry:
    """One name's origin, nothing of it imported."""

    owner: str  # the distribution and its version, as pip names them
    module: str
    attribute: str


def task_names() -> dict[str, str]:
    """The name of every installed task and the package that owns it, sorted, nothing imported.

    Raises UsageError where two packages own one name.
    """
    return {name: entry.owner for name, entry in _entries("task").items()}


def backend_names() -> dict[str, str]:
    """The name of every installed backend and the package that owns it, sorted, nothing imported.

    Raises UsageError where two packages own one name.
    """
    return {name: entry.owner for name, entry in _entries("backend").items()}


def load_task(name_or_path: str) -> Task:
    """The task of that name, or the TASK of that .py file.

    Raises UsageError for an unknown name, and for a file or module that is missing, fails to import, has
    no TASK, or whose TASK bears a name that cannot be used.
    """
    if is_path(name_or_path):
        label = f"task file {name_or_path}"
        task = _task(_import_file(_file(name_or_path), label), "TASK", label)
        if not NAME.fullmatch(task.name):
            raise UsageError(f"{label}: TASK.name is {task.name!r}; expected {_name_rule()}; rename it")
        return task
    entry = _entry("task", name_or_path)
    label = f"task {name_or_path!r} of {entry.owner}"
    task = _task(_import_module(entry.module, label), entry.attribute, label)
    if task.name != name_or_path:
        raise UsageError(f"{label} calls itself {task.name!r}; its owner has to give both the same name")
    return task


def load_backend(name: str) -> EngineFactory:
    """The engine factory of that name.

    Raises UsageError for an unknown name, and for a module that fails to import or lacks the function.
    """
    entry = _entry("backend", name)
    label = f"backend {name!r} of {entry.owner}"
    factory: object = getattr(_import_module(entry.module, label), entry.attribute, None)
    if not callable(factory):
        raise UsageError(
            f"{label}: {entry.module} has no function {entry.attribute}; expected an EngineFactory"
        )
    return factory


def load_peek(name: str) -> EngineFactory:
    """The same, for looking ahead: the function `peek` beside it, which fetches no weights, if there is one.

    Raises UsageError as `load_backend` does.
    """
    factory = load_backend(name)
    entry = _entry("backend", name)
    peek: object = getattr(sys.modules[entry.module], "peek", None)
    return peek if callable(peek) else factory


def task_digest(name_or_path: str) -> str:
    """sha256 of the source file that a task is read from: 64 hex digits.

    Raises UsageError for an unknown name or a missing file.
    """
    import hashlib

    path = _file(name_or_path) if is_path(name_or_path) else _source(_entry("task", name_or_path))
    return hashlib.sha256(_read(path, f"task {name_or_path!r}")).hexdigest()


def task_head(name_or_path: str) -> str:
    """The docstring at the head of a task's file: its layouts, sources and deviations; "" without one.

    Raises UsageError for an unknown name or a missing file.
    """
    import ast

    path = _file(name_or_path) if is_path(name_or_path) else _source(_entry("task", name_or_path))
    return ast.get_docstring(ast.parse(_read(path, f"task {name_or_path!r}"))) or ""


def is_path(name_or_path: str) -> bool:
    r"""Whether --task names a file rather than an installed task.

    >>> is_path("textvqa"), is_path("./my_task.py"), is_path("my_task.py"), is_path(r"C:\my_task.py")
    (False, True, True, True)
    """
    return name_or_path.endswith(".py") or "/" in name_or_path or "\\" in name_or_path


def _entries(noun: Noun) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for name, entry in _offered(noun):
        if not NAME.fullmatch(name):
            raise UsageError(
                f"{entry.owner} offers a {noun} named {name!r}; expected {_name_rule()}; uninstall it"
            )
        if name in found:
            raise UsageError(
                f"two packages offer a {noun} named {name!r}: {found[name].owner} and {entry.owner};"
                " uninstall one of them"
            )
        found[name] = entry
    return dict(sorted(found.items()))


def _offered(noun: Noun) -> Iterator[tuple[str, Entry]]:
    from importlib.metadata import entry_points

    yield from _shipped_tasks() if noun == "task" else _shipped_backends()
    for point in entry_points(group=GROUPS[noun]):
        owner = f"{point.dist.name} {point.dist.version}" if point.dist else point.module
        yield point.name, Entry(owner, point.module, point.attr)


def _shipped_tasks() -> Iterator[tuple[str, Entry]]:
    from importlib.util import find_spec
    from pkgutil import iter_modules

    spec = find_spec(SHIPPED_TASKS)
    if spec is None or spec.submodule_search_locations is None:
        raise UsageError(f"package {SHIPPED_TASKS} is not installed; install pgbench again: pip install -e .")
    for module in iter_modules(spec.submodule_search_locations):
        if not module.name.startswith("_"):
            yield module.name, Entry(SHIPPED, f"{SHIPPED_TASKS}.{module.name}", "TASK")


def _shipped_backends() -> Iterator[tuple[str, Entry]]:
    for name, target in backends.SHIPPED.items():
        module, _, attribute = target.partition(":")
        yield name, Entry(SHIPPED, module, attribute)


def _entry(noun: Noun, name: str) -> Entry:
    entries = _entries(noun)
    if name not in entries:
        raise UsageError(unknown(noun, name, entries, hint=BY_PATH if noun == "task" else ""))
    return entries[name]


def _name_rule() -> str:
    return "small letters, digits and underscores"


def _task(module: ModuleType, attribute: str, label: str) -> Task:
    value: object = getattr(module, attribute, None)
    if value is None:
        raise UsageError(f"{label} has no {attribute}; expected {attribute} = pgbench.types.Task(...)")
    if not isinstance(value, Task):
        raise UsageError(f"{label}: {attribute} is a {type(value).__name__}; expected a pgbench.types.Task")
    _check(value, label)
    return value


def _check(task: Task, label: str) -> None:
    """What every command relies on. Raises UsageError."""
    names = [metric.name for metric in task.metrics]
    for found, wanted in (
        (bool(task.sources), "a source"),
        (bool(task.splits), "a split"),
        (bool(names) and len(set(names)) == len(names), "metrics, each with a name of its own"),
        (sum(metric.primary for metric in task.metrics) <= 1, "one primary metric at most"),
        (bool(task.variants), "a variant"),
        (task.version >= 1 and task.max_new_tokens >= 1, "version and max_new_tokens of 1 or more"),
    ):
        if not found:
            raise UsageError(f"{label}: TASK needs {wanted}")


def _file(given: str) -> Path:
    path = Path(given).expanduser()
    if path.suffix != ".py":
        raise UsageError(
            f"task file {given} does not end in .py; expected the path of a .py file, or a task's name"
        )
    try:
        there, folder = path.is_file(), path.is_dir()
    except OSError as error:
        raise UsageError(f"task file {given} cannot be read: {error.strerror}") from error
    if not there:
        what = "is a folder" if folder else "does not exist"
        raise UsageError(f"task file {given} {what}; expected a .py file that exports TASK")
    return path


def _source(entry: Entry) -> Path:
    from importlib.util import find_spec

    try:
        spec = find_spec(entry.module)
    except ImportError as error:  # a parent package that is not there
        raise UsageError(f"module {entry.module} of {entry.owner} cannot be found: {error}") from error
    if spec is None or spec.origin is None or not spec.has_location:
        raise UsageError(f"module {entry.module} of {entry.owner} has no source file; install it again")
    return Path(spec.origin)


def _read(path: Path, label: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{label} cannot be read: {error.strerror}") from error


def _import_module(name: str, label: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(name)
    except (Exception, SystemExit) as error:  # whatever the module raises is its owner's fault, said once
        raise UsageError(f"{label} cannot be imported: {told(error)}") from error


def _import_file(path: Path, label: str) -> ModuleType:
    """Runs a file as a module of its own, once per path and content."""
    import hashlib
    from importlib.util import module_from_spec, spec_from_loader

    content = _read(path, label)
    identity = hashlib.sha256(str(path.resolve()).encode() + b"\0" + content).hexdigest()
    name = f"pgbench_task_{identity[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_loader(name, _loader(name, path, content), origin=str(path))
    if spec is None or spec.loader is None:
        raise UsageError(f"{label} cannot be imported: Python does not know what to do with it")
    spec.has_location = True  # gives the module its __file__
    module = module_from_spec(spec)
    # Before exec_module: dataclasses and pickling look a class's module up while its body is being run.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # Ctrl-C too: a half-run module must not be found by the next call
        del sys.modules[name]
        if isinstance(error, (Exception, SystemExit)):
            raise UsageError(f"{label} cannot be imported: {told(error)}") from error
        raise
    return module


def _loader(name: str, path: Path, content: bytes) -> Loader:
    """Compiles the very bytes that were hashed.

    The usual loader would take a cached .pyc whose source had the same length in the same second, and
    would leave a __pycache__ in the user's folder.
    """
    from importlib.machinery import SourceFileLoader

    class Exact(SourceFileLoader):
        def get_code(self, _name: str) -> CodeType:
            code: CodeType = self.source_to_code(content, str(path))
            return code

    return Exact(name, str(path))
