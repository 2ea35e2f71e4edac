"""What a sweep file may say: the keys, their values, and the JSON schema that editors read.

The description of a field is its help in an editor and what a message says was expected.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from pgbench.types import (
    AdapterMode,
    AdapterOrder,
    Attention,
    CacheKind,
    ChatAttention,
    Dtype,
    Kind,
    Mode,
    ProtocolName,
    Quant,
    QuantScope,
    Style,
)

BACKEND = "paligemma"  # the default one, and the one that needs a model


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("empty, or with characters that cannot be printed")
    return text


Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_printable)]
Positive: TypeAlias = Annotated[int, Field(ge=1)]
Counted: TypeAlias = Annotated[int, Field(ge=0)]
Sizes: TypeAlias = Annotated[list[Positive], Field(min_length=1)]
SIZES = "a list of px, each of which takes the place of {px} in models"
MODEL = "a hub id, folder, shipped checkpoint or glob of folders, as text"
QUANTS, DTYPES = " | ".join(get_args(Quant)), " | ".join(get_args(Dtype))


class Strict(BaseModel):
    """No key that is not listed, no value that is turned into another."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Options(Strict):
    """What any cell may say for itself; the flags of `pgbench run`, with _ for -."""

    adapter: Text | None = Field(
        default=None, description="a hub id, or a folder relative to the file that says it"
    )
    adapter_mode: AdapterMode | None = Field(default=None, description="merge | attach")
    adapter_order: AdapterOrder | None = Field(
        default=None, description="before | after, than the model is quantized"
    )
    attention: Attention | None = Field(default=None, description=" | ".join(get_args(Attention)))
    backend: Text | None = Field(default=None, description="paligemma | oracle | replay | a plugin's")
    batch_size: Positive | Literal["auto"] | None = Field(
        default=None,
        description="samples a batch: a whole number of 1 or more, or auto, which finds it out once",
    )
    cache: CacheKind | None = Field(default=None, description="dynamic | static")
    chat_attention: ChatAttention | None = Field(default=None, description="full | causal")
    data: Text | None = Field(default=None, description="a path, relative to the file that says it")
    data_id: Text | None = Field(default=None, description="a hub id of the data set, as text")
    data_revision: Text | None = Field(
        default=None, description="branch, tag or commit of the data set, as text"
    )
    device: Annotated[str, Field(pattern=r"^(auto|auto-map|cpu|cuda(:[0-9]+)?)$")] | None = Field(
        default=None, description="auto | cpu | cuda | cuda:N | auto-map"
    )
    dtype: Dtype | None = Field(default=None, description=DTYPES)
    kind: Kind | None = Field(default=None, description="pt | mix | ft | chat")
    limit: Positive | Literal["all"] | None = Field(
        default=None, description="samples at most: a whole number of 1 or more, or all"
    )
    max_failures: Counted | None = Field(
        default=None, description="failed samples accepted: a whole number of 0 or more"
    )
    max_memory: Text | None = Field(
        default=None, description="what each device may hold under auto-map, as 0=20GiB,cpu=60GiB"
    )
    metric: Text | None = Field(default=None, description="one metric's name, as text")
    mode: Mode | None = Field(default=None, description="generate | likelihood")
    official_seed: int | None = Field(default=None, description="a whole number")
    pixels_from: Positive | None = Field(
        default=None, description="px to reduce pictures to first: a whole number of 1 or more"
    )
    predictions: Text | None = Field(
        default=None, description="a file of answers, relative to the file that says it"
    )
    prompt_style: Style | None = Field(default=None, description="paligemma | official")
    protocol: ProtocolName | None = Field(default=None, description="hf | paper")
    quant_scope: QuantScope | None = Field(default=None, description="all | language")
    resolution: Positive | None = Field(
        default=None, description="px that the checkpoint has to have: a whole number of 1 or more"
    )
    seed: int | None = Field(default=None, description="of the order of samples: a whole number")
    source: Text | None = Field(default=None, description="hub | files | demo, or a source of the task")
    split: Text | None = Field(default=None, description="a split of the task, as text")
    threads: Positive | None = Field(default=None, description="CPU threads: a whole number of 1 or more")
    tuned_on: Text | None = Field(default=None, description="the task of an ft checkpoint, as text")
    variant: Text | None = Field(default=None, description="a variant of the task, as text")


class _Named(Options):
    """A mapping that a text may stand for: the text is its first key's value."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "minLength": 1}, handler(core)]}


class CheckpointEntry(_Named):
    """A checkpoint, with whatever holds for its cells alone."""

    model: Text | None = Field(default=None, description=MODEL)
    revision: Text | None = Field(default=None, description="branch, tag or commit of the hub id, as text")
    quant: Annotated[list[Quant], Field(min_length=1)] | None = Field(
        default=None, description=f"a list of {QUANTS}"
    )
    dtypes: Annotated[list[Dtype], Field(min_length=1)] | None = Field(
        default=None, description=f"a list of {DTYPES}"
    )
    resolutions: Sizes | None = Field(default=None, description=SIZES)

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, given: object) -> object:
        return {"model": given} if isinstance(given, str) else given


class TaskEntry(_Named):
    """A task, with whatever holds for its cells alone."""

    task: Text = Field(description="a task's name, or the path of a .py file")

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, given: object) -> object:
        return {"task": given} if isinstance(given, str) else given


class CellEntry(Options):
    """One further cell."""

    task: Text = Field(description="a task's name, or the path of a .py file")
    model: Text | None = Field(default=None, description=MODEL)
    revision: Text | None = Field(default=None, description="branch, tag or commit of the hub id, as text")
    quant: Quant | None = Field(default=None, description=QUANTS)


class Match(Options):
    """What cells have in common that are not wanted; * stands for anything in model and task."""

    task: Text | None = Field(default=None, description="a task, or a pattern such as mm*")
    model: Text | None = Field(default=None, description="a checkpoint, or a pattern such as google/*-448")
    revision: Text | None = Field(default=None, description="a revision, as text")
    resolution: Positive | None = Field(default=None, description="px, of checkpoints written with {px}")
    quant: Quant | None = Field(default=None, description=QUANTS)


class SweepFile(Strict):
    """A pgbench sweep."""

    extends: Text | None = Field(default=None, description="another sweep file, relative to this one")
    defaults: Options = Field(default=Options(), description="a mapping of options of every cell")
    checkpoints: list[CheckpointEntry] = Field(default=[], description="a list of checkpoints")
    quant: Annotated[list[Quant], Field(min_length=1)] = Field(
        default=["none"], description=f"a list of {QUANTS}"
    )
    dtypes: Annotated[list[Dtype], Field(min_length=1)] | None = Field(
        default=None, description=f"a list of {DTYPES}"
    )
    resolutions: Sizes | None = Field(default=None, description=SIZES)
    tasks: list[TaskEntry] = Field(default=[], description="a list of tasks")
    include: list[CellEntry] = Field(default=[], description="a list of mappings, a further cell each")
    exclude: list[Match] = Field(default=[], description="a list of mappings, of cells that are not wanted")
    replicates: dict[Text, Annotated[list[Text], Field(min_length=1)]] = Field(
        default={}, description="a mapping of a recipe's name to the list of its checkpoints"
    )


INNER: dict[str, type[Strict]] = {
    "defaults": Options,
    "checkpoints": CheckpointEntry,
    "tasks": TaskEntry,
    "include": CellEntry,
    "exclude": Match,
}


def schema() -> dict[str, object]:
    """The JSON schema of a sweep file, for editors. A value is never null: the key is left out."""
    made: dict[str, object] = _without_null(SweepFile.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _without_null(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_null(item) for item in part]
    if not isinstance(part, dict):
        return part
    kept = {key: _without_null(value) for key, value in part.items() if (key, value) != ("default", None)}
    choices = kept.get("anyOf")
    if isinstance(choices, list):
        kept["anyOf"] = [choice for choice in choices if choice != {"type": "null"}]
        if len(kept["anyOf"]) == 1:
            kept |= kept.pop("anyOf")[0]
    return kept
