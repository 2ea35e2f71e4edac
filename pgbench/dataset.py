"""What a benchmark published, as it travels through pgbench: pictures, questions, data sets.

Part of `pgbench.types`, which is where others import it from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Target: TypeAlias = str | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is opened late."""

    name: str  # for messages: a file name or row, never an absolute path
    read: Callable[[], bytes]  # the encoded file (JPEG, PNG, ...); raises OSError


@dataclass(frozen=True, slots=True)
class Sample:
    """One question with its images and references, as the benchmark published it."""

    id: str  # stable across runs and machines: the join key of paired tests
    images: tuple[Image, ...]  # one token block each, in marker order
    question: str
    target: Target  # the references; None: published without, run but not scored
    options: tuple[str, ...] = ()
    context: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)  # what only the task itself reads
    groups: Mapping[str, str] = field(default_factory=dict)  # breakdown name -> value
    cluster: str = ""  # the coarsest unit of dependence (image, pair); "": the sample itself


def cluster_of(sample: Sample) -> str:
    """The name of a sample's cluster; a sample without one is its own."""
    return sample.cluster or sample.id


@dataclass(frozen=True, slots=True)
class DataRequest:
    """Where a source shall read: what --split, --data, --data-id, --data-revision and --variant said."""

    split: str
    path: str | None = None
    id: str | None = None
    revision: str | None = None
    variant: str = ""  # for variants that change which images or labels a sample has; "": the default


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a source found. `samples` may fetch its items late; iteration order is the published order."""

    samples: Sequence[Sample]
    digest: str  # sha256 over ids, questions, references and image names, in order
    id: str  # what was read: a hub id, a file name, "demo"; never an absolute path
    revision: str | None = None  # the hub commit, where there is one
    missing: tuple[str, ...] = ()  # ids of samples whose image file is not there
    demo: bool = False  # drawn by pgbench, not the published benchmark


Source: TypeAlias = Callable[[DataRequest], Dataset]  # raises DataError, HubError
