"""Questions published without answers, held as columns: GQA's 4.2 million take 300 MB instead of 3 GB."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import overload

from pgbench.errors import DataError
from pgbench.sources.files import check_unique, digest
from pgbench.types import Dataset, Image, Sample


@dataclass(slots=True)
class Texts:
    """Short texts one behind the other; eight bytes each beside their own."""

    content: bytearray = field(default_factory=bytearray)
    ends: array[int] = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        begin = self.ends[index - 1] if index else 0
        return self.content[begin : self.ends[index]].decode()

    def append(self, text: str) -> None:
        """`text` must be UTF-8 text, which `pgbench.sources.files.text` sees to."""
        self.content += text.encode()
        self.ends.append(len(self.content))


@dataclass(slots=True)
class Blind(Sequence[Sample]):
    """Samples of an id, one picture and a question, built when they are asked for; a picture is a cluster."""

    image_of: Callable[[str], Image]  # by image id
    ids: Texts = field(default_factory=Texts)
    questions: Texts = field(default_factory=Texts)
    images: array[int] = field(default_factory=lambda: array("i"))  # in `names`
    names: list[str] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)  # the inverse of `names`

    def add(self, one: str, image_id: str, question: str) -> None:
        place = self.places.setdefault(image_id, len(self.names))
        if place == len(self.names):
            self.names.append(image_id)
        self.ids.append(one)
        self.questions.append(question)
        self.images.append(place)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        row = range(len(self))[index]
        image_id = self.names[self.images[row]]
        return Sample(
            id=self.ids[row],
            images=(self.image_of(image_id),),
            question=self.questions[row],
            target=None,
            cluster=image_id,
        )


def blind_set(
    asked: Iterable[tuple[str, str, str]],
    image_of: Callable[[str], Image],
    there: Container[str],
    name: str,
    revision: str | None = None,
) -> Dataset:
    """Questions without answers from (id, image id, question); `there` holds the names of the pictures.

    Raises DataError: no question, or an id twice.
    """
    import numpy as np

    samples = Blind(image_of)
    for one, image_id, question in asked:
        samples.add(one, image_id, question)
    if not samples:
        raise DataError(f"{name} holds no question of this split; take another file")
    hashes = np.fromiter((hash(samples.ids[row]) for row in range(len(samples))), np.int64, len(samples))
    if len(np.unique(hashes)) < len(samples):  # a set of four million ids takes 400 MB, their hashes 34
        check_unique((samples.ids[row] for row in range(len(samples))), name)
    lost = {place for place, one in enumerate(samples.names) if image_of(one).name not in there}
    missing = tuple(samples.ids[row] for row, place in enumerate(samples.images) if place in lost)
    return Dataset(samples, digest(samples), name, revision, missing)
