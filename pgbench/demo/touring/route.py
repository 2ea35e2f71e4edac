"""What `pgbench demo` sweeps, as a value and as the sweep file that its user gets to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pgbench.durable import exists, write_pieces
from pgbench.errors import StoreError, UsageError
from pgbench.recipe.asked import AskedCell

RECIPE = "demo.yaml"


@dataclass(frozen=True, slots=True)
class Harm:
    """How a checkpoint is damaged: noise on every weight matrix whose name holds one of `parts`.

    `size` is the noise's standard deviation in standard deviations of the matrix itself.
    """

    parts: tuple[str, ...] = ("multi_modal_projector", ".mlp.")
    size: float = 2.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Gate:
    """The run that becomes a baseline, and what is done to its checkpoint."""

    task: str
    checkpoint: str
    harm: Harm = field(default_factory=Harm)


@dataclass(frozen=True, slots=True)
class Route:
    """The axes of the demo's sweep, and what is shown of it.

    `checkpoints` and `tasks` are in order of cost, cheap first: a sweep keeps it. `tasks`: a name -> what its
    entry in a sweep file says beside it. `pair`: two checkpoints of one recipe at two resolutions, px.
    """

    checkpoints: tuple[str, ...]
    quant: tuple[str, ...]
    tasks: Mapping[str, Mapping[str, str]]
    limit: int  # samples a cell
    pair: Mapping[int, str]
    gate: Gate
    batch: int = 20
    workers: int = 1  # processes at once, where there are as many cores


_GATE = Gate("vqav2", "tiny-mix-448")
_PAIR = {224: "tiny-mix-224", 448: "tiny-mix-448"}
FULL = Route(
    checkpoints=("tiny-mix-224", "tiny2-mix-224", "tiny-mix-448"),
    quant=("none", "8bit", "4bit"),
    tasks={
        **{name: {} for name in ("vqav2", "gqa", "pope")},
        "textvqa": {"data_id": "world"},
        **{name: {} for name in ("mmvp", "scienceqa", "mmmu", "cmmmu", "docci")},
    },
    limit=100,
    pair=_PAIR,
    gate=_GATE,
    workers=2,
)
QUICK = Route(
    checkpoints=("tiny-mix-224", "tiny-mix-448"),
    quant=("none", "4bit"),
    tasks={"vqav2": {}, "pope": {}, "textvqa": {"data_id": "world"}},
    limit=40,
    pair=_PAIR,
    gate=_GATE,
)


def text(route: Route) -> str:
    """The sweep file, the same text for the same route."""
    tasks = "".join(f"  - {_entry(name, more)}\n" for name, more in route.tasks.items())
    checkpoints = "".join(f"  - {name}\n" for name in route.checkpoints)
    return f"""\
# What `pgbench demo` sweeps: drawn pictures, tiny checkpoints trained on drawings. Its numbers say nothing
# about PaliGemma. The same by hand, in the folder of this file:
#   pgbench sweep {RECIPE} --out runs
defaults:
  source: demo
  limit: {route.limit}  # samples a cell
  batch_size: {route.batch}
  device: cpu
  threads: 1  # models this small are slower with more
checkpoints:  # the cheap ones first: a sweep keeps their order
{checkpoints}quant: [{", ".join(route.quant)}]  # none: bfloat16
tasks:
{tasks}"""


def _entry(name: str, more: Mapping[str, str]) -> str:
    if not more:
        return name
    return "{" + ", ".join(f"{key}: {value}" for key, value in {"task": name, **more}.items()) + "}"


def begin(route: Route, out: Path) -> tuple[AskedCell, ...]:
    """Writes OUT/demo.yaml, or finds it there, and reads the cells from it.

    Raises UsageError where OUT holds the demo of another route, and for a recipe that asks for what this
    pgbench has not; StoreError where OUT cannot be written.
    """
    from pgbench.recipe.read import read

    path, own = out / RECIPE, text(route)
    if exists(path):
        if _read(path) != own:
            raise UsageError(
                f"{out} holds a demo with another {RECIPE}; name another folder with --out, or remove it"
            )
    else:
        write_pieces(path, [own.encode()])
    return read(path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error


def only(cells: Sequence[AskedCell], task: str, checkpoint: str) -> AskedCell:
    """The unquantized cell of a task and a checkpoint. Raises UsageError where the sweep has none."""
    for cell in cells:
        if (cell.task, cell.model.model, cell.model.quant) == (task, checkpoint, "none"):
            return cell
    raise UsageError(
        f"{RECIPE} has no unquantized cell of {task} and {checkpoint}, which the gate is shown on"
    )
