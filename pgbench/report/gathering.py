"""The runs of a report, read from their folders: records, and ratings of captions beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgbench import store
from pgbench.errors import StoreError
from pgbench.frame.folders import Reading
from pgbench.records import RunRecord, Score
from pgbench.report.entries import PEOPLE, Rating, Run
from pgbench.sweeping import state

if TYPE_CHECKING:
    from pgbench.nes.score import Share


@dataclass(frozen=True, slots=True)
class Gathered:
    """Finished runs in the order of their folders; `unfinished`: names of folders without a record."""

    runs: tuple[Run, ...]
    unfinished: tuple[str, ...]

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is not in the tables."""
        if not self.unfinished:
            return ()
        shown = ", ".join(self.unfinished[:5])
        more = f" and {len(self.unfinished) - 5:,} more" if len(self.unfinished) > 5 else ""
        return (f"not finished, and in no table: {shown}{more}",)


def gather(
    folders: Sequence[Path],
    *,
    recipes: bool = False,
    ratings: bool = False,
    watch: Callable[[], object] = lambda: None,
) -> Gathered:
    """Every run below the folders, each once. `recipes`: also which checkpoints are replicates; `ratings`:
    also what people and judges said of captions.

    `watch` is called for each run. Raises UsageError for a folder that is not there, StoreError for a record
    or rating that cannot be read.
    """
    runs: list[Run] = []
    unfinished: list[str] = []
    seen: set[Path] = set()
    known = _Recipes() if recipes else None
    for top in folders:
        reading = Reading.of(top, "skip")
        for name, record in reading.each(store.read_record):
            folder = reading.top / name
            watch()
            if folder.resolve() in seen:
                continue
            seen.add(folder.resolve())
            if record is None:
                unfinished.append(name if name != "." else folder.resolve().name)
                continue
            rated, remarks = _ratings(folder, record) if ratings else ((), ())
            recipe = known.of(folder) if known else ""
            runs.append(Run(str(folder), record, recipe, rated, remarks))
        if reading.skipped:
            raise StoreError(reading.skipped[0]["reason"])
    return Gathered(tuple(runs), tuple(unfinished))


class _Recipes:
    """What the sweep.json two folders above a run says of its checkpoint, each file read once."""

    def __init__(self) -> None:
        self._known: dict[Path, dict[str, str]] = {}

    def of(self, folder: Path) -> str:
        place = folder.resolve()
        out = place.parent.parent
        if out not in self._known:
            self._known[out] = {
                str(cell.get("folder")): str(cell["replicate"])
                for cell in state.read(out)
                if cell.get("replicate")
            }
        return self._known[out].get(place.relative_to(out).as_posix(), "")


def _ratings(folder: Path, record: RunRecord) -> tuple[tuple[Rating, ...], tuple[str, ...]]:
    """NES by people and by judges, of the answers as they are now, and why others are left out."""
    paths = sorted(folder.glob("nes-*.json"))
    if not paths:
        return (), ()
    from pgbench.nes import answers

    digest = answers.read(folder).digest
    found, remarks = [], []
    for path in paths:
        of, rating = _rating(path)
        if of == digest:
            found.append(rating)
        else:
            remarks.append(f"{path.name} rates other answers than the run has now, and is left out")
    people = [rating for rating in found if rating.rater == PEOPLE]
    if len(people) > 1:
        names = " and ".join(path.name for path in paths if not path.name.startswith("nes-proxy-"))
        raise StoreError(f"{folder} has more than one rating by people, {names}; move all but one elsewhere")
    return tuple(found), tuple(remarks)


def _rating(path: Path) -> tuple[str, Rating]:
    """The digest of what was rated, and the rating."""
    from pgbench.nes import judge, proxies, rated

    if not path.name.startswith("nes-proxy-"):
        people = rated.load(path)
        share, raters = people.nes.without_nothing, len(people.raters)
        told = f"NES by {raters} rater{'s' if raters != 1 else ''}, n = {share.n:,} sentences; {people.rule}"
        return people.answers, Rating("nes", PEOPLE, _score(share, people.failed), told)
    proxy = proxies.load(path)
    told = f"{proxy.name}, n = {proxy.share.n:,} sentences; {judge.caveat(proxy.judge.name)}"
    return proxy.answers, Rating(proxy.name, proxy.name, _score(proxy.share, proxy.failed), told)


def _score(share: Share, failed: int) -> Score:
    return Score(
        share.value,
        share.low,
        share.high,
        share.stderr,
        n=share.n,
        units=share.n,
        clusters=share.clusters,
        invalid=0,
        failed=failed,
        interval=share.interval,
    )
