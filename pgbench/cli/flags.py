"""Flags that commands share, each with its help: one word, one meaning everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Task = Annotated[
    str, typer.Option("--task", "-t", help="A task's name (pgbench tasks), or the path of a task file.")
]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Hub id, folder or shipped checkpoint. [default: the embedded demo]"),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of the hub id.")]
Quant = Annotated[
    str,
    typer.Option(
        help="none | 8bit | 4bit (nf4) | fp4; with an extra: torchao-int8 | torchao-fp8 | quanto-int8 | "
        "quanto-int4"
    ),
]
QuantScope = Annotated[str, typer.Option(help="all | language (vision tower and projector stay as they are)")]
Kind = Annotated[str | None, typer.Option(help="pt | mix | ft | chat. [default: as its name says]")]
TunedOn = Annotated[str | None, typer.Option(help="Task that an ft checkpoint was tuned on, by name.")]
Resolution = Annotated[int | None, typer.Option(min=1, help="px that the checkpoint has to have.")]
Adapter = Annotated[str | None, typer.Option(help="A LoRA adapter: a folder, or a hub id[@revision].")]
AdapterMode = Annotated[str | None, typer.Option(help="merge | attach. [default: merge]")]
AdapterOrder = Annotated[
    str | None,
    typer.Option(help="before | after quantization. [default: before for merge, after for attach]"),
]
MaxMemory = Annotated[
    str | None, typer.Option(help="Of --device auto-map: what each device may hold, as 0=20GiB,cpu=60GiB.")
]
Dtype = Annotated[str, typer.Option(help="float32 | bfloat16 | float16")]
Device = Annotated[
    str, typer.Option(help="auto | cpu | cuda | cuda:N | auto-map (spread over all that there is)")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Samples a batch.")]
BatchSizeOrAuto = Annotated[
    Any,
    typer.Option(
        parser=str, metavar="N|auto", help="Samples a batch; auto finds it once on this device and keeps it."
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        help="hub | files | demo. [default: what --data holds, else hub; run without a real --model: demo]"
    ),
]
Data = Annotated[
    str | None,
    typer.Option(help="Folder of the data; a parquet file, or of task custom the file of records."),
]
DataId = Annotated[str | None, typer.Option(help="Another hub id of the data set.")]
DataRevision = Annotated[str | None, typer.Option(help="Branch, tag or commit of the data set.")]
Split = Annotated[str | None, typer.Option(help="One of the task's (pgbench tasks). [default: its first]")]
Variant = Annotated[str | None, typer.Option(help="A task's variant (pgbench tasks). [default: its first]")]
PromptStyle = Annotated[str, typer.Option(help="paligemma | official (the benchmark's authors')")]
Protocol = Annotated[str, typer.Option(help="hf (as published) | paper (as big_vision)")]
PixelsFrom = Annotated[
    int | None, typer.Option(min=1, help="An ablation: reduce pictures to so many px first.")
]
Mode = Annotated[
    str, typer.Option(help="generate | likelihood: how likely given answers are, where a task has that.")
]
ChatAttention = Annotated[
    str | None, typer.Option(help="Of a chat checkpoint: full | causal, within a prompt's text. [full]")
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="About so many samples: whole images, in one fixed order.")
]
Seed = Annotated[int, typer.Option(help="Of the fixed order of images.")]
Metric = Annotated[
    str | None,
    typer.Option(help="Score by this metric alone: one of the task's own, or a general one, as exact_match."),
]
OfficialSeed = Annotated[
    int | None,
    typer.Option(help="Score too what the official script's own guesses give, drawn with this seed."),
]
Backend = Annotated[str, typer.Option(help="paligemma | oracle | replay | a plugin's")]
Predictions = Annotated[str | None, typer.Option(help="File of answers, for the backend replay.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads. [default: all; fewer where clearly faster]")
]
Attention = Annotated[
    str | None,
    typer.Option(help="eager | sdpa | grouped | flex_attention. [default: the first that agrees]"),
]
Cache = Annotated[str | None, typer.Option(help="dynamic | static. [default: dynamic]")]
MaxFailures = Annotated[int, typer.Option(min=0, help="Failed samples that are accepted.")]
NoReuse = Annotated[
    bool, typer.Option("--no-reuse", help="Generate every answer, also what other cells below --out have.")
]
Doctor = Annotated[
    bool, typer.Option("--doctor", help="Probe the stack first, and run nothing where it is broken.")
]
Shard = Annotated[
    str | None,
    typer.Option(help="i/n: answer only part i of n, from 0/n to n-1/n; pgbench merge makes the record."),
]
Out = Annotated[Path, typer.Option(help="Where run folders go.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
