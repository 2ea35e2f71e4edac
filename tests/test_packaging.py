"""What is installed: the wheel, built from the source distribution without a network, and its metadata."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions, version
from pathlib import Path

import architecture
import conftest
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Needed, and imported by none of our files.
BY_OTHERS = {
    "accelerate": "transformers loads quantized models through it",
    "bitsandbytes": "transformers quantizes with it",
    "optimum-quanto": "transformers quantizes with it",
    "safetensors": "the one format of weights that is read; transformers asks for it",
}


def own(path: Path) -> bool:
    """Whether a file belongs to the project, rather than to a tool or an earlier run."""
    return "__pycache__" not in path.parts and not path.name.endswith((".pyc", ".egg-info"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from an unpacked source distribution, which is built from a copy of the project."""
    copy, out = tmp_path_factory.mktemp("copy") / "pgbench", tmp_path_factory.mktemp("dist")
    copy.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc", "runs")
    for folder in ("pgbench", "tasks", "results", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, copy)
    (copy / "results" / "runs").mkdir()
    (copy / "results" / "runs" / "private.json").write_text("{}")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert built.returncode == 0, (built.stdout + built.stderr)[-3000:]
    assert len(list(out.glob("*.tar.gz"))) == 1
    (path,) = out.glob("*.whl")
    return path


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_every_module_is_in_the_wheel(wheel: Path) -> None:
    wanted = {path.replace("tasks/", "pgbench_tasks/", 1) for path in architecture.house() if path[0] == "t"}
    wanted |= {path for path in architecture.house() if path[0] == "p"}
    assert "pgbench_tasks/textvqa.py" in wanted
    assert wanted - names(wheel) == set()


def test_the_data_is_in_the_wheel(wheel: Path) -> None:
    shipped = [
        path for path in (ROOT / "pgbench/demo/checkpoints").rglob("*") if path.is_file() and own(path)
    ]
    wanted = {path.relative_to(ROOT).as_posix() for path in shipped}
    assert {Path(path).suffix for path in wanted} >= {".json", ".safetensors"}
    templates = (ROOT / "pgbench/report/formats/templates").iterdir()
    wanted |= {path.relative_to(ROOT).as_posix() for path in templates if own(path)}
    assert "pgbench/report/formats/templates/page.html" in wanted
    for folder in ("published", "demo"):
        found = [path for path in (ROOT / "results" / folder).rglob("*") if path.is_file() and own(path)]
        found = [path for path in found if (folder, path.suffix) != ("demo", ".json")]  # of a checkout alone
        wanted |= {f"pgbench_{path.relative_to(ROOT).as_posix()}" for path in found}
    assert {"pgbench_results/published/textvqa.csv", "pgbench_results/published/README.md"} <= wanted
    assert wanted | {"pgbench/py.typed"} <= names(wheel)


def test_pytest_finds_the_plugin_of_the_wheel(wheel: Path) -> None:
    (name,) = (name for name in names(wheel) if name.endswith(".dist-info/entry_points.txt"))
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(name).decode()
    assert "[pytest11]\npgbench = pgbench.pytest_plugin\n" in text


def test_nothing_else_is_in_the_wheel(wheel: Path) -> None:
    info = {name for name in names(wheel) if ".dist-info/" in name}
    assert any(name.endswith("/licenses/LICENSE") for name in info)
    others = names(wheel) - info
    assert {name.split("/")[0] for name in others} == {"pgbench", "pgbench_tasks", "pgbench_results"}
    unwanted = r"(^|/)(tests?|runs)/|^pgbench_results/bench/|\.py[cod]$|typings"
    assert not [name for name in others if re.search(unwanted, name)]


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < 15_000_000
    with zipfile.ZipFile(wheel) as archive:
        assert [file.filename for file in archive.infolist() if file.file_size > 15_000_000] == []


def test_the_unpacked_wheel_works(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import importlib.resources as r, pgbench.registry as g, pgbench_tasks, pgbench_results;"
        "print(pgbench_tasks.__file__, r.files('pgbench_results'), g.load_task('textvqa').name, sep='\\n');"
        "import pgbench.published; print(len(pgbench.published.rows()))"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}
    )
    assert run.stdout.splitlines() == [
        str(tmp_path / "pgbench_tasks" / "__init__.py"),
        str(tmp_path / "pgbench_results"),
        "textvqa",
        "918",
    ]


def test_one_version_everywhere() -> None:
    stated = PYPROJECT["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [stated]
    assert version("pgbench") == stated, "the environment is stale: run make test"
    code = "import pgbench; print(pgbench.__version__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == stated


def declared() -> dict[str, Requirement]:
    """What is installed with pgbench, and with its extras for users."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    optional = [line for name, lines in extras.items() if name != "dev" for line in lines]
    found = [Requirement(line) for line in [*PYPROJECT["project"]["dependencies"], *optional]]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def test_what_is_imported_is_declared_and_the_reverse() -> None:
    distributions = packages_distributions()
    used: set[str] = set()
    for path, text in architecture.house().items():
        for _, name, _ in architecture.imports(path, text):
            top = name.split(".")[0]
            if top not in sys.stdlib_module_names and top not in ("pgbench", "pgbench_tasks", "__future__"):
                used |= {canonicalize_name(dist) for dist in distributions.get(top, [top])[:1]}
    assert used - set(declared()) == set(), "imported, and not in pyproject.toml"
    assert set(declared()) - used - set(BY_OTHERS) == set(), "in pyproject.toml, and imported nowhere"


def test_torchvision_is_asked_for_nowhere() -> None:
    """Its wheels name one exact torch: installing it can replace the torch that the user chose."""
    extras = [
        Requirement(line)
        for extra in PYPROJECT["project"]["optional-dependencies"].values()
        for line in extra
    ]
    assert "torchvision" not in {requirement.name for requirement in [*declared().values(), *extras]}


def test_the_constraints_satisfy_the_ranges() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert "+" not in pins["torch"], "a build tag would refuse every other build"
    exact = {canonicalize_name(name): pin for name, pin in pins.items()}
    extras = [
        Requirement(line)
        for extra in PYPROJECT["project"]["optional-dependencies"].values()
        for line in extra
    ]
    for requirement in [*declared().values(), *extras]:
        pin = exact.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not pinned"
        assert requirement.specifier.contains(pin), f"{requirement} against {pin}"


@pytest.mark.parametrize(
    ("address", "local"),
    [
        (("127.0.0.1", 80), True),
        (("::1", 80, 0, 0), True),
        (("localhost", 80), True),
        ("/run/socket", True),
        (("8.8.8.8", 53), False),
        (("huggingface.co", 443), False),
    ],
)
def test_no_test_reaches_the_network(address: object, local: bool) -> None:
    assert conftest.is_local(address) is local


def test_the_guard_stands_before_the_socket() -> None:
    import socket

    assert socket.socket.connect.__name__ == "guarded"
