"""The rules of the house, each a function of one file's path and text, so that each can be shown to fail.

A rule is given a path relative to the repository ("pgbench/runner.py") and yields one line per violation.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

ROOT = Path(__file__).parent.parent
Rule: TypeAlias = Callable[[str, str], Iterator[str]]

BY_FLOOR = {
    "ground": "types dataset checkpoints records errors profiles keys",
    "parts": "metrics stats power registry sources submissions recipe specs plan batching tally durable lines"
    " holders locks samples store units published backends verdicts",
    "work": "runner batch witness report paired exports check nes demo fetch inspection evaluate_modules"
    " sweeping frame flips concluding merging reuse rescore bench answering ahead fitting",
    "placement": "engines",
    "roof": "cli face pytest_plugin __init__ __main__",
}
FLOOR_NAMES = tuple(BY_FLOOR)
FLOORS = {room: floor for floor, rooms in enumerate(BY_FLOOR.values()) for room in rooms.split()}
A_TASK_MAY_IMPORT = {*BY_FLOOR["ground"].split(), "metrics", "sources", "submissions"}
ENGINE = set("accelerate bitsandbytes optimum peft torch torchao transformers".split())
HEAVY = ENGINE | set("PIL datasets evaluate matplotlib numpy pandas pyarrow scipy statsmodels".split())
HEAVY |= {"jinja2", "junitparser"}
PICKLES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
PURE = re.compile(
    r"pgbench/(metrics/.*|stats/.*|power|specs|plan|batching|check/(?!asking|folders)\w+"
    r"|report/(table|grid|axes|entries|comparison|costs|deltas|layouts|marks|placing|published_rows|saying))\.py"
)
IMPURE = set("io logging os pathlib shutil socket subprocess sys tempfile time urllib".split())
PRINTS = re.compile(r"pgbench/(cli/.*|cli\.py|__main__\.py|demo/(train|teach|teaching/examination)\.py)")
ENGINE_DOOR = re.compile(r"pgbench/(backends/.*|demo/(train|teach)\.py|demo/teaching/.*)")
HEAVY_DOOR = re.compile(
    r"pgbench/(backends/(?!(__init__|oracle|replay)\.py).*|demo/(train|teach)\.py|demo/teaching/.*"
    r"|evaluate_modules/(?!__init__\.py).*)"
)
LONGEST_FILE, LONGEST_FUNCTION, MEDIAN_FUNCTION = 300, 60, 12
VAGUE = {"base", "common", "helper", "helpers", "manager", "util", "utils"}
AT_IMPORT = re.compile(
    r"(os\.)?(environ|getenv|putenv)\b|.*\.(manual_seed(_all)?|set_grad_enabled|set_num_threads)$|(np|numpy)\.random\."
    r"|random\.seed$|logging\.(basicConfig|config\..*|disable)$|.*\.(setLevel|addHandler|set_verbosity\w*)$"
    r"|warnings\.(filterwarnings|simplefilter)$|socket\.|requests\.|urllib\.request\.|sys\.path\."
)
When: TypeAlias = Literal["import", "typing", "call"]  # typing: below `if TYPE_CHECKING:`, never run
Import: TypeAlias = tuple[int, str, When]  # line, dotted module, when it happens
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Where:
    """What the name of a file says: its module, and the room that it is in."""

    module: str
    room: str
    package: bool

    @staticmethod
    def of(path: str) -> Where:
        parts = path.removesuffix(".py").split("/")
        package = parts[-1] == "__init__"
        names = ["pgbench_tasks" if parts[0] == "tasks" else parts[0], *parts[1:]]
        module = ".".join(names[:-1] if package else names)
        return Where(module, names[1] if names[0] == "pgbench" else "", package)


def house() -> dict[str, str]:
    """Every file of the package and of the tasks: path -> text."""
    files = [*ROOT.glob("pgbench/**/*.py"), *ROOT.glob("tasks/**/*.py")]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(files)}


def is_module(name: str) -> bool:
    """Whether a dotted name is a module or package of the house."""
    path = ROOT.joinpath(*name.replace("pgbench_tasks", "tasks").split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def imports(path: str, text: str) -> Iterator[Import]:
    """All imports, those inside functions too; `from package import module` names the module."""
    tree = ast.parse(text)
    when: dict[int, When] = {}
    for node in ast.walk(tree):
        if isinstance(node, Function) or (isinstance(node, ast.If) and "TYPE_CHECKING" in dotted(node.test)):
            state: When = "call" if isinstance(node, Function) else "typing"
            when |= {id(part): state for part in ast.walk(node)}
    here = Where.of(path)
    for node in ast.walk(tree):
        time = when.get(id(node), "import")
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, time) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(here, node)
            for alias in node.names:
                deeper = f"{source}.{alias.name}"
                yield node.lineno, deeper if is_module(deeper) else source, time


def _absolute(here: Where, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    up = here.module.split(".")[: (1 if here.package else 0) - node.level or None]
    return ".".join([*up, *([node.module] if node.module else [])])


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or attribute, else "". Calls and indexes on the way count as their base."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    if isinstance(node, (ast.Call, ast.Subscript)):
        return dotted(node.func if isinstance(node, ast.Call) else node.value)
    return node.id if isinstance(node, ast.Name) else ""


def calls(text: str) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            yield node, dotted(node.func)


def functions(text: str) -> Iterator[tuple[Function, int]]:
    """Every function with its length in lines, docstring included."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function):
            yield node, (node.end_lineno or node.lineno) - node.lineno + 1


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: not function bodies, annotations or the main guard."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (Function, ast.Lambda)):
            defaults = [*child.args.defaults, *filter(None, child.args.kw_defaults)]
            for expression in [*defaults, *getattr(child, "decorator_list", [])]:
                yield from ast.walk(expression)
        elif isinstance(child, ast.AnnAssign):
            yield from ast.walk(child.value) if child.value else ()
        elif not (isinstance(child, ast.If) and "__name__" in ast.dump(child.test)):
            yield child
            yield from at_import(child)


def floors(path: str, text: str) -> Iterator[str]:
    """A lower floor never imports a higher one."""
    here = Where.of(path)
    if not here.module.startswith("pgbench.") and here.module != "pgbench":
        return
    room = here.room
    if room not in FLOORS:
        yield f"{path}:1: room {room} is on no floor; say in tests/architecture.py which"
        return
    for line, name, _ in imports(path, text):
        other = name.split(".")[1] if name.startswith("pgbench.") else ""
        if name.startswith("pgbench_tasks"):
            yield f"{path}:{line}: imports the task {name}; the registry loads tasks by name"
        elif FLOORS.get(other, 0) > FLOORS[room]:
            floor, higher = FLOOR_NAMES[FLOORS[room]], FLOOR_NAMES[FLOORS[other]]
            yield f"{path}:{line}: {room} ({floor}) imports {other} ({higher})"


def tasks_are_leaves(path: str, text: str) -> Iterator[str]:
    """A task imports the ground, metrics and sources; the demo inside functions; no other task."""
    if not path.startswith("tasks/"):
        return
    for line, name, when in imports(path, text):
        room = name.split(".")[1] if name.startswith("pgbench.") else None
        if name.split(".")[0] in ("pgbench_tasks", "tasks"):
            yield f"{path}:{line}: a task imports {name}"
        elif room == "demo" and when != "call":
            yield f"{path}:{line}: a task imports the demo at module level; import it where it is used"
        elif room and room not in A_TASK_MAY_IMPORT | {"demo"}:
            yield f"{path}:{line}: a task imports {name}"


def one_door(path: str, text: str) -> Iterator[str]:
    """Only the backends and the demo's training script import the engine's libraries."""
    for line, name, _ in imports(path, text):
        if name.split(".")[0] in ENGINE and not ENGINE_DOOR.fullmatch(path):
            yield f"{path}:{line}: imports {name} outside pgbench/backends"


def light_modules(path: str, text: str) -> Iterator[str]:
    """Heavy libraries are imported inside the functions that need them."""
    for line, name, when in imports(path, text):
        if when == "import" and name.split(".")[0] in HEAVY and not HEAVY_DOOR.fullmatch(path):
            yield f"{path}:{line}: imports {name} at module level"


def no_face(path: str, text: str) -> Iterator[str]:
    """No file imports the package's public face, or a folder by its name in the repository."""
    for line, name, _ in imports(path, text):
        if name == "pgbench":
            yield f"{path}:{line}: imports the package face"
        if name.split(".")[0] in ("tasks", "results", "tests"):
            yield f"{path}:{line}: imports {name}, which has that name in the repository only"


def pure(path: str, text: str) -> Iterator[str]:
    """Metrics, statistics, specs, plans, gates and tables touch no disk, clock or terminal."""
    if not PURE.fullmatch(path):
        return
    for line, name, _ in imports(path, text):
        if name.split(".")[0] in IMPURE:
            yield f"{path}:{line}: a pure file imports {name}"
    for node, name in calls(text):
        if name in ("open", "print", "input") or re.search(r"\bdate(time)?\.(now|utcnow|today)$", name):
            yield f"{path}:{node.lineno}: a pure file calls {name}"


def quiet(path: str, text: str) -> Iterator[str]:
    """Only the command prints or exits."""
    if PRINTS.fullmatch(path):
        return
    for node, name in calls(text):
        if name in ("print", "exit", "quit", "sys.exit", "os._exit", "SystemExit") or ".stdout.write" in name:
            yield f"{path}:{node.lineno}: calls {name}; only cli prints or exits"


def no_effects(path: str, text: str) -> Iterator[str]:
    """Importing reads no environment, seeds nothing, configures no logging, connects to nothing."""
    for node in at_import(ast.parse(text)):
        if isinstance(node, (ast.Call, ast.Subscript)) and AT_IMPORT.match(name := dotted(node)):
            yield f"{path}:{node.lineno}: {name} runs at import"


def sizes(path: str, text: str) -> Iterator[str]:
    """A file and a function stay within what a reader can hold."""
    if (lines := len(text.splitlines())) > LONGEST_FILE:
        yield f"{path}:1: {lines} lines; at most {LONGEST_FILE}"
    for node, length in functions(text):
        if length > LONGEST_FUNCTION:
            yield f"{path}:{node.lineno}: {node.name} has {length} lines; at most {LONGEST_FUNCTION}"


def named(path: str, _text: str) -> Iterator[str]:
    """A file's name says what is in it."""
    for word in path.removesuffix(".py").split("/")[1:]:
        if VAGUE & set(word.split("_")):
            yield f"{path}:1: the name {word} says nothing"


def sound(path: str, text: str) -> Iterator[str]:
    """No bare except, no assert, nothing that runs what a file or a model says."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{path}:{node.lineno}: a bare except"
        if isinstance(node, ast.Assert):
            yield f"{path}:{node.lineno}: an assert; python -O drops it"
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code" and _may_be_true(node.value):
            yield f"{path}:{node.lineno}: trust_remote_code"
    for node, name in calls(text):
        if name in ("eval", "exec", "torch.load", "yaml.load", "os.system"):
            yield f"{path}:{node.lineno}: calls {name}"
    for line, name, _ in imports(path, text):
        if name.split(".")[0] in PICKLES:
            yield f"{path}:{line}: imports {name}"


def _may_be_true(value: ast.expr) -> bool:
    return not (isinstance(value, ast.Constant) and value.value is False)


def blind_runner(path: str, text: str, tasks: frozenset[str] = frozenset()) -> Iterator[str]:
    """The runner names no task, not even in a comment."""
    if not path.startswith(("pgbench/runner.py", "pgbench/runner/")):
        return
    for number, line in enumerate(text.splitlines(), start=1):
        for name in tasks & set(re.findall(r"\w+", line.lower())):
            yield f"{path}:{number}: names the task {name}"


def circles(files: Mapping[str, str]) -> list[list[str]]:
    """Modules that import each other at module level, as chains that return to their start."""
    graph: dict[str, set[str]] = {}
    for path, text in files.items():
        here = Where.of(path).module
        graph[here] = {name for _, name, when in imports(path, text) if when != "call" and name != here}
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(name: str, chain: list[str]) -> None:
        if name in chain:
            found.append([*chain[chain.index(name) :], name])
        elif name in graph and name not in done:
            for other in sorted(graph[name]):
                walk(other, [*chain, name])
            done.add(name)

    for name in sorted(graph):
        walk(name, [])
    return found
