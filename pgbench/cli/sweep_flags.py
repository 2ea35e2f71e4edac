"""The flags of `pgbench sweep`: those of `pgbench run`, of which axes can be given more than once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

File = Annotated[Path | None, typer.Argument(help="A sweep file (YAML).", show_default=False)]
Checkpoints = Annotated[
    list[str] | None,
    typer.Option(
        "--checkpoint", "--model", "-m", help="Hub id, folder, glob of folders or shipped checkpoint. Repeat."
    ),
]
Tasks = Annotated[list[str] | None, typer.Option("--task", "-t", help="Names or task files: repeat, or a,b.")]
Quants = Annotated[
    list[str] | None,
    typer.Option("--quant", help="none, 8bit, 4bit, fp4, or one of an extra, as in run: repeat, or a,b."),
]
QuantScope = Annotated[
    str | None, typer.Option(help="all | language (vision tower and projector stay as they are)")
]
Dtypes = Annotated[
    list[str] | None, typer.Option("--dtype", help="float32, bfloat16, float16: repeat, or a,b.")
]
Resolutions = Annotated[
    list[str] | None,
    typer.Option("--resolution", help="px in place of {px} in --checkpoint: repeat, or a,b."),
]
Device = Annotated[str | None, typer.Option(help="auto | cpu | cuda | cuda:N | auto-map")]
BatchSize = Annotated[
    str | None, typer.Option(metavar="N|auto", help="Samples a batch; auto finds it once. [default: 8]")
]
PromptStyle = Annotated[str | None, typer.Option(help="paligemma | official (the benchmark's authors')")]
Protocol = Annotated[str | None, typer.Option(help="hf (as published) | paper (as big_vision)")]
Mode = Annotated[
    str | None, typer.Option(help="generate | likelihood: how likely given answers are. [default: generate]")
]
Seed = Annotated[int | None, typer.Option(help="Of the fixed order of images. [default: 0]")]
Backend = Annotated[str | None, typer.Option(help="paligemma | oracle | replay | a plugin's")]
MaxFailures = Annotated[int | None, typer.Option(min=0, help="Failed samples that are accepted, each cell.")]
Engine = Annotated[
    str, typer.Option(help="serial (one process) | local (each device of this machine) | ray (a cluster)")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Of --engine local or ray: processes at once.")]
Address = Annotated[str | None, typer.Option(help="Of --engine ray: the cluster. [default: one of its own]")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Show cells, memory and time. Reads the data; loads and fetches no weights."
    ),
]
Schema = Annotated[bool, typer.Option("--schema", help="Print the JSON schema of sweep files, for editors.")]


def listed(given: list[str] | None) -> list[str] | None:
    """Words that were repeated or joined by commas; None where there are none.

    >>> listed(["none,8bit", "4bit"])
    ['none', '8bit', '4bit']
    """
    words = [word.strip() for text in given or () for word in text.split(",")]
    return words if given else None
