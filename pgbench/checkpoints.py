"""Which model is asked, as it travels through pgbench: what the flags said, and what it came to.

Part of `pgbench.types`, which is where others import it from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["pt", "mix", "ft", "chat"]
Family: TypeAlias = Literal["paligemma", "paligemma2"]
Style: TypeAlias = Literal["paligemma", "official"]
# 8bit, 4bit (nf4) and fp4 are bitsandbytes'; the others need the extras pgbench[torchao] and pgbench[quanto].
Quant: TypeAlias = Literal[
    "none", "8bit", "4bit", "fp4", "torchao-int8", "torchao-fp8", "quanto-int8", "quanto-int4"
]
QuantScope: TypeAlias = Literal["all", "language"]
Dtype: TypeAlias = Literal["float32", "bfloat16", "float16"]
ProtocolName: TypeAlias = Literal["hf", "paper"]
ChatAttention: TypeAlias = Literal["full", "causal"]
AdapterMode: TypeAlias = Literal["merge", "attach"]
AdapterOrder: TypeAlias = Literal["before", "after"]
# Of the text model. grouped is pgbench's own, the others are transformers'.
Attention: TypeAlias = Literal["eager", "sdpa", "grouped", "flex_attention"]
CacheKind: TypeAlias = Literal["dynamic", "static"]


@dataclass(frozen=True, slots=True)
class Profile:
    """What kind of checkpoint is asked, which decides how it is asked."""

    kind: Kind
    family: Family
    tuned_on: str | None = None  # the task of an ft checkpoint
    style: Style = "paligemma"  # official: the prompt of the benchmark's authors


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Which weights, and everything about them that can move an answer."""

    id: str  # a hub id, a folder's name, a shipped checkpoint's name, or the backend's own name
    revision: str | None  # hub commit, or sha256 of a folder's content
    profile: Profile
    resolution: int  # px, square; 0 where the backend sees no pixels
    dtype: Dtype = "bfloat16"
    quant: Quant = "none"
    quant_scope: QuantScope = "all"  # language: the vision tower and the projector stay as they are
    protocol: ProtocolName = "hf"
    pixels_from: int | None = None  # px that pictures are reduced to before they get the resolution
    adapter: str | None = None  # hub id or name of the folder of a LoRA adapter
    backend: str = "paligemma"
    demo: bool = False  # a checkpoint shipped with pgbench: its numbers say nothing about PaliGemma
    chat_attention: ChatAttention | None = None  # within the text of a prompt; of kind chat alone
    adapter_revision: str | None = None  # hub commit, or sha256 of its config and weights
    adapter_mode: AdapterMode | None = None
    adapter_order: AdapterOrder | None = None  # before or after quantization; None: nothing is quantized
    attention: Attention | None = None  # as asked; None: the first that agrees, which the stack names
    cache: CacheKind | None = None  # as asked; None: dynamic


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What the flags said about the model, before anything was looked up."""

    model: str | None = None
    revision: str | None = None
    dtype: Dtype = "bfloat16"
    quant: Quant = "none"
    style: Style = "paligemma"
    protocol: ProtocolName = "hf"
    pixels_from: int | None = None
    chat_attention: ChatAttention | None = None  # None: the default of kind chat
    kind: Kind | None = None  # None: as its name says; likewise the next
    tuned_on: str | None = None
    resolution: int | None = None  # what it has to have; None: whatever it has
    quant_scope: QuantScope = "all"
    adapter: str | None = None
    adapter_mode: AdapterMode | None = None  # None: merge
    adapter_order: AdapterOrder | None = None  # None: before for merge, after for attach
    device: str = "auto"
    max_memory: str | None = None  # of --device auto-map: "0=20GiB,cpu=60GiB"
    threads: int | None = None  # None: as measured at load
    attention: Attention | None = None  # None: the first that agrees
    cache: CacheKind | None = None  # None: dynamic
    predictions: str | None = None  # for the replay backend
