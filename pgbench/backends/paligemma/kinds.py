"""What kind of checkpoint this is and at which resolution: by its name and config, or as the flags say."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from pgbench.errors import UsageError
from pgbench.profiles import RELEASED, profile_of
from pgbench.types import Family, ModelRequest, Profile, Quant

_EXTRAS = {"torchao": "torchao", "quanto": "optimum-quanto"}  # extra -> the package that it brings
_PX = re.compile(r"[-_](224|448|896)$")


def profile(request: ModelRequest, name: str, family: Family) -> Profile:
    """As the name says, of the adapter where there is one; --kind and --tuned-on say it otherwise.

    `name`: of the checkpoint or the adapter. Raises UsageError for a kind that contradicts a published
    checkpoint, and for a task without kind ft.
    """
    found = profile_of(name, family, request.style)
    if request.kind not in (None, found.kind) and name in RELEASED:
        raise UsageError(
            f"--kind {request.kind}: {name} was published as kind {found.kind}; leave --kind out"
        )
    kind = request.kind or found.kind
    if request.tuned_on is None:
        tuned_on = found.tuned_on if kind == found.kind else None
    elif kind != "ft":
        raise UsageError(f"--tuned-on {request.tuned_on}: {name} is of kind {kind}; add --kind ft")
    elif name in RELEASED and request.tuned_on != found.tuned_on:
        raise UsageError(
            f"--tuned-on {request.tuned_on}: {name} was published as tuned on {found.tuned_on}; leave it out"
        )
    else:
        tuned_on = request.tuned_on
    style = "official" if kind == "chat" else request.style  # as `profile_of` has it
    return Profile(kind=kind, family=family, tuned_on=tuned_on, style=style)


def require_library(quant: Quant) -> None:
    """The library of a level that an extra brings; the others' comes with pgbench. Raises UsageError."""
    extra = quant.partition("-")[0]
    if (package := _EXTRAS.get(extra)) is None:
        return
    try:
        version(package)
    except PackageNotFoundError as error:
        raise UsageError(
            f"--quant {quant} needs {package}, which is not installed; pip install 'pgbench[{extra}]'"
        ) from error


def require_resolution(asked: int | None, found: int, name: str) -> None:
    """A checkpoint has one resolution: its position embeddings are of that many patches.

    Raises UsageError with the choices: leave it out, or another checkpoint of the same series.
    """
    if asked in (None, found):
        return
    at = [one for one in series(name) if one.endswith(f"-{asked}")]
    others = [one for one in series(name) if one != name and one not in at]
    told = f" or {at[0]}" if at else ""
    rest = f"; the series also has {', '.join(others)}" if others else ""
    raise UsageError(
        f"--resolution {asked}: {name} has {found} px and no other; expected --resolution {found}{told}{rest}"
    )


def series(name: str) -> list[str]:
    """Published checkpoints that differ from this one in their resolution alone, itself included."""
    stem = _PX.sub("", name)
    return [one for one in RELEASED if _PX.search(one) and _PX.sub("", one) == stem]
