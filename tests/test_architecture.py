"""The house keeps its shape, and each rule that says so is shown to fail."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from functools import partial

import architecture as rules
import pytest

HOUSE = rules.house()
NOT_AT_START = {"PIL", "bitsandbytes", "datasets", "numpy", "pandas", "scipy", "torch", "transformers"}
RULES = [
    *(rules.floors, rules.tasks_are_leaves, rules.one_door, rules.light_modules, rules.no_face, rules.pure),
    *(rules.quiet, rules.no_effects, rules.sizes, rules.named, rules.sound),
]
LONG = "def f():\n" + "    x = 1\n" * 60
IN_F = "def f():\n    "

BROKEN = [
    (
        rules.floors,
        "pgbench/types.py",
        "from pgbench.stats import mean",
        "types (ground) imports stats (parts)",
    ),
    (
        rules.floors,
        "pgbench/metrics/vqa.py",
        "import pgbench.runner",
        "metrics (parts) imports runner (work)",
    ),
    (
        rules.floors,
        "pgbench/runner.py",
        IN_F + "from pgbench.cli import main",
        "runner (work) imports cli (roof)",
    ),
    (
        rules.floors,
        "pgbench/demo/signs.py",
        "from pgbench.engines.local import run",
        "demo (work) imports engines",
    ),
    (
        rules.floors,
        "pgbench/sources/hub.py",
        "from ..report import table",
        "sources (parts) imports report (work)",
    ),
    (
        rules.floors,
        "pgbench/runner.py",
        IN_F + "import pgbench_tasks.gqa",
        "imports the task pgbench_tasks.gqa",
    ),
    (rules.floors, "pgbench/attic.py", "", "room attic is on no floor"),
    (
        rules.tasks_are_leaves,
        "tasks/gqa.py",
        "from pgbench_tasks.textvqa import TASK",
        "a task imports pgbench_tasks",
    ),
    (rules.tasks_are_leaves, "tasks/gqa.py", "from tasks import textvqa", "a task imports tasks"),
    (
        rules.tasks_are_leaves,
        "tasks/gqa.py",
        IN_F + "from pgbench.runner import run",
        "a task imports pgbench.runner",
    ),
    (
        rules.tasks_are_leaves,
        "tasks/gqa.py",
        "from pgbench import store, backends",
        "a task imports pgbench.backends",
    ),
    (
        rules.tasks_are_leaves,
        "tasks/gqa.py",
        "import pgbench.demo",
        "a task imports the demo at module level",
    ),
    (rules.one_door, "pgbench/runner.py", IN_F + "import torch.cuda", "imports torch.cuda outside"),
    (
        rules.one_door,
        "pgbench/demo/signs.py",
        IN_F + "from transformers import AutoModel",
        "imports transformers",
    ),
    (rules.one_door, "tasks/gqa.py", "import bitsandbytes", "imports bitsandbytes"),
    (
        rules.light_modules,
        "pgbench/stats/intervals.py",
        "from scipy import stats",
        "imports scipy at module level",
    ),
    (
        rules.light_modules,
        "tasks/gqa.py",
        "if True:\n    import PIL.Image",
        "imports PIL.Image at module level",
    ),
    (rules.light_modules, "pgbench/backends/oracle.py", "import torch", "imports torch at module level"),
    (rules.light_modules, "pgbench/backends/__init__.py", "import torch", "imports torch at module level"),
    (rules.no_face, "pgbench/runner.py", IN_F + "import pgbench", "imports the package face"),
    (rules.no_face, "pgbench/cli/run.py", "from pgbench import __version__", "imports the package face"),
    (rules.no_face, "pgbench/store.py", "from . import compare", "imports the package face"),
    (rules.no_face, "pgbench/registry.py", "import tasks.textvqa", "in the repository only"),
    (rules.pure, "pgbench/metrics/vqa.py", IN_F + "from pathlib import Path", "imports pathlib"),
    (rules.pure, "pgbench/stats/intervals.py", "import time", "imports time"),
    (rules.pure, "pgbench/specs.py", IN_F + "open('x')", "calls open"),
    (rules.pure, "pgbench/plan.py", IN_F + "print(1)", "calls print"),
    (rules.pure, "pgbench/check/rules.py", IN_F + "datetime.datetime.now(tz)", "calls datetime.datetime.now"),
    (rules.pure, "pgbench/report/table.py", "import os", "imports os"),
    (rules.quiet, "pgbench/runner.py", IN_F + "print('x')", "calls print"),
    (rules.quiet, "tasks/gqa.py", IN_F + "raise SystemExit(2)", "calls SystemExit"),
    (rules.quiet, "pgbench/store.py", IN_F + "sys.exit(2)", "calls sys.exit"),
    (rules.quiet, "pgbench/report/render.py", IN_F + "sys.stdout.write('x')", "calls sys.stdout.write"),
    (
        rules.no_effects,
        "pgbench/store.py",
        "import os\nX = os.environ.get('X')",
        "os.environ.get runs at import",
    ),
    (rules.no_effects, "pgbench/store.py", "X: str = os.environ['X']", "os.environ runs at import"),
    (rules.no_effects, "pgbench/store.py", "class A:\n    x = os.getenv('X')", "os.getenv runs at import"),
    (rules.no_effects, "pgbench/store.py", "def f(x=getenv('X')):\n    pass", "getenv runs at import"),
    (
        rules.no_effects,
        "pgbench/backends/paligemma/load.py",
        "torch.manual_seed(0)",
        "torch.manual_seed runs",
    ),
    (
        rules.no_effects,
        "pgbench/stats/intervals.py",
        "RNG = np.random.default_rng(0)",
        "np.random.default_rng runs",
    ),
    (
        rules.no_effects,
        "pgbench/cli/__init__.py",
        "try:\n    logging.basicConfig()\nfinally:\n    pass",
        "basicConfig",
    ),
    (
        rules.no_effects,
        "pgbench/cli/__init__.py",
        "logging.getLogger('x').setLevel(1)",
        "setLevel runs at import",
    ),
    (rules.sizes, "pgbench/runner.py", LONG, "f has 61 lines"),
    (rules.sizes, "pgbench/runner.py", "x = 1\n" * 301, "301 lines"),
    (rules.named, "pgbench/utils.py", "", "the name utils says nothing"),
    (rules.named, "pgbench/metrics/vqa_helpers.py", "", "the name vqa_helpers says nothing"),
    (rules.named, "tasks/common.py", "", "the name common says nothing"),
    (rules.named, "pgbench/base/load.py", "", "the name base says nothing"),
    (rules.sound, "pgbench/store.py", "try:\n    x\nexcept:\n    pass", "a bare except"),
    (rules.sound, "pgbench/store.py", IN_F + "assert x", "an assert"),
    (rules.sound, "pgbench/metrics/vqa.py", IN_F + "eval(text)", "calls eval"),
    (rules.sound, "pgbench/store.py", IN_F + "import pickle", "imports pickle"),
    (rules.sound, "pgbench/backends/paligemma/load.py", IN_F + "torch.load(x)", "calls torch.load"),
    (
        rules.sound,
        "pgbench/backends/paligemma/load.py",
        IN_F + "load(trust_remote_code=True)",
        "trust_remote_code",
    ),
    (
        rules.sound,
        "pgbench/backends/paligemma/load.py",
        IN_F + "load(trust_remote_code=flag)",
        "trust_remote_code",
    ),
    (
        partial(rules.blind_runner, tasks=frozenset({"gqa"})),
        "pgbench/runner.py",
        "# as GQA does",
        "names the task gqa",
    ),
]

FINE = [
    ("pgbench/runner.py", "from pgbench import store\nfrom pgbench.backends import Backend"),
    ("pgbench/cli/run.py", "import os\n" + IN_F + "print(os.environ['X'])"),
    (
        "pgbench/backends/paligemma/load.py",
        "import torch\n" + IN_F + "torch.manual_seed(load(trust_remote_code=False))",
    ),
    ("pgbench/backends/oracle.py", IN_F + "import numpy as np\n    return np.random.default_rng(0)"),
    (
        "pgbench/demo/train.py",
        "import torch\nif __name__ == '__main__':\n    torch.manual_seed(0)\n    print(1)",
    ),
    (
        "pgbench/stats/intervals.py",
        "import math\nfrom datetime import datetime\n" + IN_F + "import scipy.stats",
    ),
    (
        "pgbench/sources/images.py",
        "if TYPE_CHECKING:\n    import PIL.Image\n" + IN_F + "from PIL import Image",
    ),
    (
        "pgbench/store.py",
        "class A:\n    rng: np.random.Generator\n" + "    x = 1\n" * 200 + "def f(path): open(path)",
    ),
    (
        "tasks/gqa.py",
        "from pgbench.metrics import mean\n" + IN_F + "import pgbench.demo",
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule: rules.Rule) -> None:
    found = [line for path, text in HOUSE.items() for line in rule(path, text)]
    assert not found, "\n".join(["", *(rule.__doc__ or "").splitlines(), *found])


@pytest.mark.parametrize(("rule", "path", "text", "message"), BROKEN)
def test_a_broken_rule_is_seen(rule: rules.Rule, path: str, text: str, message: str) -> None:
    assert any(message in line and line.startswith(f"{path}:") for line in rule(path, text))


@pytest.mark.parametrize(("path", "text"), FINE)
def test_what_the_house_allows(path: str, text: str) -> None:
    assert [line for rule in RULES for line in rule(path, text)] == []


def test_every_rule_is_shown_to_fail() -> None:
    assert {rule for rule, *_ in BROKEN if rule in RULES} == set(RULES)


def test_the_runner_names_no_task() -> None:
    tasks = frozenset(path[6:-3] for path in HOUSE if path.startswith("tasks/")) - {"__init__"}
    assert tasks
    assert [line for path, text in HOUSE.items() for line in rules.blind_runner(path, text, tasks)] == []


def test_no_circles() -> None:
    assert rules.circles(HOUSE) == []
    planted = {
        "pgbench/store.py": "from pgbench import plan",
        "pgbench/plan.py": "import pgbench.specs",
        "pgbench/specs.py": "from pgbench.store import read",
    }
    assert rules.circles(planted) == [["pgbench.plan", "pgbench.specs", "pgbench.store", "pgbench.plan"]]
    typed = {"pgbench/specs.py": "if TYPE_CHECKING:\n    from pgbench.store import read"}
    assert len(rules.circles(planted | typed)) == 1, "a circle of types is a circle"
    assert rules.circles(planted | {"pgbench/specs.py": IN_F + "import pgbench.store"}) == []


def test_functions_are_short() -> None:
    lengths = [length for text in HOUSE.values() for _, length in rules.functions(text)]
    assert statistics.median(lengths) <= rules.MEDIAN_FUNCTION


def test_modules_without_collected_doctests_hold_none() -> None:
    """pytest skips these (pyproject.toml), so an example in them would never be run."""
    parts = ("__main__", "backends/paligemma/", "demo/train", "demo/teach", "evaluate_modules/")
    skipped = ("tasks/", *(f"pgbench/{part}" for part in parts))
    assert [path for path, text in HOUSE.items() if path.startswith(skipped) and ">>>" in text] == []


def loaded(*arguments: str) -> set[str]:
    """The top-level packages that a Python process imports, read off its own report."""
    command = [sys.executable, "-X", "importtime", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    report = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    assert run.returncode == 0, "\n".join(line for line in run.stderr.splitlines() if line not in report)
    return {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in report}


@pytest.mark.parametrize(
    "arguments",
    [("-m", "pgbench", "--help"), ("-m", "pgbench", "tasks"), ("-c", "import pgbench")],
    ids=" ".join,
)
def test_starting_loads_no_heavy_library(arguments: tuple[str, ...]) -> None:
    packages = loaded(*arguments)
    assert "pgbench" in packages
    assert packages & NOT_AT_START == set()


def test_the_report_of_imports_is_read() -> None:
    assert "numpy" in loaded("-c", "import numpy.linalg")


def cpu_seconds(*arguments: str) -> float:
    """Processor time, user and system, of a Python process: the wall clock lies on a loaded machine."""
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(
        status
    )  # reaped above; else Popen warns that it still runs
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def test_help_starts_in_a_quarter_of_a_second() -> None:
    cpu_seconds("-m", "pgbench", "--help")  # compiles what pip did not: an editable install
    spent = statistics.median(cpu_seconds("-m", "pgbench", "--help") for _ in range(7))
    busy = os.getloadavg()[0] > 0.75 * (os.cpu_count() or 1)
    # Neighbours slow a core down too: shared caches, hyperthreads, a lower clock.
    assert spent < 0.25 * (2 if busy else 1)
