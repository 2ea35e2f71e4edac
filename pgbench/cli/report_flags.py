"""Flags of `pgbench report`, each with its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Dirs = Annotated[list[Path] | None, typer.Argument(metavar="DIR", help="Folders that hold run folders.")]
Layout = Annotated[
    str | None, typer.Option("--layout", "-l", help="quant | resolution | docci | chat | paper (all)")
]
Rows = Annotated[list[str] | None, typer.Option(help="Axes of the rows, with commas: model,quant.")]
Columns = Annotated[list[str] | None, typer.Option(help="Axes of the columns, nested: task,resolution.")]
Metrics = Annotated[
    list[str] | None, typer.Option("--metric", help="Instead of the primary; again for more.")
]
By = Annotated[list[str] | None, typer.Option("--by", help="Each value of a breakdown too: setting.")]
Tasks = Annotated[
    list[str] | None, typer.Option("--task", "-t", help="Runs of this task only; again for more.")
]
Delta = Annotated[str | None, typer.Option(help="Differences against a cell: quant=none, resolution=224.")]
Paired = Annotated[
    bool, typer.Option("--paired", help="Read the answers: paired intervals, the best in bold, marks.")
]
TaskFiles = Annotated[
    list[str] | None, typer.Option("--task-file", help="With --paired: the file of a task that is one.")
]
Costs = Annotated[
    bool | None,
    typer.Option("--costs/--no-costs", help="Weights, memory, speed, loading. [default: as the layout]"),
]
Published = Annotated[
    bool, typer.Option("--published/--no-published", help="Published numbers beside the cells they match.")
]
Beside = Annotated[
    bool, typer.Option("--published-columns", help="Published numbers as columns, not as rows.")
]
PublishedOnly = Annotated[
    bool, typer.Option("--published-only", help="What papers say, without any run of yours.")
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        help="terminal | markdown | csv | json | latex | html. [default: the ending of --out, else terminal]",
    ),
]
Out = Annotated[Path | None, typer.Option(help="Write to this file. [default: stdout]")]
Caption = Annotated[str, typer.Option(help="Of a single table.")]
Figures = Annotated[
    bool, typer.Option("--figures", help="Also figures: in the page of html, else beside --out FILE.")
]
Standalone = Annotated[
    bool, typer.Option("--standalone", help="With --format latex: a whole document, for pdflatex as it is.")
]
Methods = Annotated[
    bool, typer.Option("--methods", help="Also the paragraph for an appendix: protocol, versions, BibTeX.")
]
