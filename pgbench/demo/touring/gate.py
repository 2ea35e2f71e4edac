"""The gate of the demo: a baseline, a check that passes, a damaged checkpoint, a check that fails."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pgbench.check.findings import Check
from pgbench.check.folders import check_folders
from pgbench.demo.touring.damage import Damage, damaged
from pgbench.demo.touring.route import Route, only
from pgbench.errors import OK, REGRESSED, CheckpointError
from pgbench.paired import baseline, reading
from pgbench.profiles import SHIPPED
from pgbench.recipe.asked import AskedCell
from pgbench.sweeping.told import Swept

BASELINE = "baseline.json"


@dataclass(frozen=True, slots=True)
class Post:
    """Where the gate's things lie: the run that is guarded, its baseline file, the damaged checkpoint and its
    run."""

    asked: AskedCell
    run: Path
    baseline: Path
    checkpoint: Path
    runs: Path

    @property
    def saving(self) -> tuple[str, ...]:
        """Arguments of pgbench that write the baseline."""
        return ("baseline", "save", str(self.run), "--out", str(self.baseline))

    @property
    def passing(self) -> tuple[str, ...]:
        return ("check", "--baseline", str(self.baseline), "--candidate", str(self.run))

    @property
    def running(self) -> tuple[str, ...]:
        """Arguments of pgbench that run the damaged checkpoint."""
        asked = self.asked
        data = ("--data-id", asked.data.id) if asked.data.id else ()
        limit = ("--limit", str(asked.limit)) if asked.limit else ()
        task = ("--task", asked.task, "--source", str(asked.source), *data, *limit)
        machine = ("--device", asked.model.device, "--threads", str(asked.model.threads))
        model = ("--model", str(self.checkpoint), "--batch-size", str(asked.batch))
        return ("run", *task, *model, *machine, "--out", str(self.runs))

    def failing(self, run: Path) -> tuple[str, ...]:
        """`run`: of the damaged checkpoint."""
        return ("check", "--baseline", str(self.baseline), "--candidate", str(run))

    @property
    def candidate(self) -> AskedCell:
        """The cell of the damaged checkpoint."""
        return replace(self.asked, model=replace(self.asked.model, model=str(self.checkpoint)), where="")


def post(route: Route, swept: Swept, out: Path) -> Post:
    """Raises UsageError where the sweep has no such cell."""
    asked = only([cell.asked for cell in swept.cells], route.gate.task, route.gate.checkpoint)
    folder = next(cell.folder for cell in swept.cells if cell.asked == asked)
    name = f"{route.gate.checkpoint}-damaged"
    return Post(asked, folder or out, out / BASELINE, out / "damaged" / name, out / "damaged" / "runs")


def save(post: Post) -> None:
    """Writes the baseline. Raises StoreError."""
    baseline.save([reading.read(post.run)], post.baseline)


def harm(route: Route, post: Post) -> Damage:
    """Writes the damaged checkpoint. Raises CheckpointError, StoreError."""
    from importlib.resources import files

    name = route.gate.checkpoint
    if name not in SHIPPED:
        raise CheckpointError(f"{name} is no checkpoint that pgbench ships; expected {' or '.join(SHIPPED)}")
    source = Path(str(files("pgbench") / "demo" / "checkpoints" / name))
    return damaged(source, post.checkpoint, route.gate.harm)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The baseline's own run against it, and the damaged checkpoint's."""

    itself: Check
    damaged: Check

    @property
    def as_it_should(self) -> bool:
        return (self.itself.exit_code, self.damaged.exit_code) == (OK, REGRESSED)


def judge(post: Post, run: Path) -> Verdicts:
    """Both checks, as `pgbench check` makes them. `run`: of the damaged checkpoint.

    Raises StoreError, UsageError.
    """
    return Verdicts(check_folders(post.baseline, post.run), check_folders(post.baseline, run))
