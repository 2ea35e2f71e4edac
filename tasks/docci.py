"""DOCCI: long English descriptions of photographs, one for each (Onoe et al., ECCV 2024).

Layouts: docci_descriptions.jsonlines of https://storage.googleapis.com/docci/data/ with images/ beside it
(unpacked from docci_images.tar.gz), and parquet copies on the hub such as not-lain/docci. Those have test and
train alone: qual_dev and qual_test are in the files only. google/docci on the hub is a script data set, which
`datasets` does not run since version 4. As in its docci.py, the field `split` and the prefix of example_id
together decide what belongs to a split.
Contamination: google/paligemma2-{3b,10b}-ft-docci-448 were trained on train and test (PaliGemma 2,
arXiv:2412.03555, section 4.6): only qual_dev and qual_test are clean for them, and table 6 is on qual_dev.
Prompt: `caption en` for pre-trained and tuned checkpoints, as in the Hugging Face blog on PaliGemma 2;
`describe en` for PaliGemma 2 mix, its model card's prefix for long descriptions. DOCCI's authors publish no
prompt for a model, so that prompt style official is refused.
Generation: 192 tokens, the length that PaliGemma 2 decodes for DOCCI (appendix B.5); the blog takes 200.
Pixels: google-research/big_vision@0127fb6 has no DOCCI config; not antialiased, as in transfers/cococap.py.
Scores: pgbench's own choice, see pgbench.metrics.docci; people's ratings (NES) are no part of a run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pgbench.errors import DataError, UsageError, unknown
from pgbench.metrics.docci import METRICS
from pgbench.metrics.likelihood import PERPLEXITY
from pgbench.sources.files import (
    check_name,
    check_unique,
    data_folder,
    digest,
    field,
    files_in,
    image_file,
    kind,
    listing,
    text,
)
from pgbench.types import DataRequest, Dataset, Image, LikelihoodMode, Pixels, Profile, Sample, Task

Record: TypeAlias = Mapping[str, object]

HUB_ID = "not-lain/docci"
SCRIPT_ID = "google/docci"
SPLITS = {"test": 5_000, "qual_dev": 100, "qual_test": 100, "train": 9_647}
ON_HUB = ("test", "train")
FIELDS = ("example_id", "description")
DESCRIPTIONS = "docci_descriptions.jsonlines"
IMAGES = "images"
ADVICE = "name the split of this file with --split, or take another file"

BIBTEX = """@inproceedings{onoe2024docci,
  title     = {{DOCCI}: Descriptions of Connected and Contrasting Images},
  author    = {Onoe, Yasumasa and Rane, Sunayana and Berger, Zachary and Bitton, Yonatan and Cho, Jaemin and
               Garg, Roopal and Ku, Alexander and Parekh, Zarana and Pont-Tuset, Jordi and
               Tanzer, Garrett and Wang, Su and Baldridge, Jason},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year      = {2024}
}"""


def prompt(_sample: Sample, profile: Profile, _variant: str) -> str:
    """A task prefix of PaliGemma's, and for chat words of pgbench's own, since nobody published any.

    Raises UsageError for prompt style official.
    """
    if profile.kind == "chat":
        return "Describe this image in detail."
    if profile.style == "official":
        raise UsageError("docci has no prompt by its authors; leave out --prompt-style official")
    return "describe en" if (profile.kind, profile.family) == ("mix", "paligemma2") else "caption en"


def gold(sample: Sample) -> str:
    """The reference, without white space at its ends."""
    return sample.target.strip() if isinstance(sample.target, str) else ""


def from_hub(request: DataRequest) -> Dataset:
    """not-lain/docci, or a folder, parquet file or other copy of its shape. Raises DataError, HubError."""
    from pgbench.sources.parquet import parquet_rows

    check_split(request)
    refuse_what_no_hub_has(request)
    rows = parquet_rows(request, HUB_ID, (request.split,), fields=FIELDS)
    samples = []
    for index, record in enumerate(rows.fields(*FIELDS)):
        where = f"{rows.id} row {index}"
        example = example_id(record, where)
        if not belongs(example, request.split):
            raise DataError(f"{where}: example_id {example!r} is not of split {request.split}; {ADVICE}")
        samples.append(read_sample(record, where, rows.image(index, f"{example}.jpg")))
    missing = tuple(samples[index].id for index in sorted(rows.without_image()))
    return finish(samples, rows.id, rows.revision, missing)


def refuse_what_no_hub_has(request: DataRequest) -> None:
    """Raises DataError before anything is downloaded for what is known not to be there."""
    if request.path is not None:
        return
    files = f"--source files --data DIR with {DESCRIPTIONS} and {IMAGES}/"
    if request.id == SCRIPT_ID:
        raise DataError(
            f"data set {SCRIPT_ID} is a script, which datasets>=4 does not run; take {HUB_ID}, or {files}"
        )
    if request.id in (None, HUB_ID) and request.split not in ON_HUB:
        raise DataError(f"data set {HUB_ID} has no {request.split}, only test and train; take {files}")


def from_files(request: DataRequest) -> Dataset:
    """The authors' files below --data: docci_descriptions.jsonlines and images/. Raises DataError."""
    check_split(request)
    folder = data_folder(request.path, f"{DESCRIPTIONS} and {IMAGES}/")
    samples, there = [], Counter[str]()
    for where, record in json_lines(folder, DESCRIPTIONS):
        split = text(field(record, "split", where), "split", where)
        there[split] += 1
        if split != request.split or not belongs(example_id(record, where), split):
            continue
        name = check_name(text(field(record, "image_file", where), "image_file", where), where)
        samples.append(read_sample(record, where, image_file(folder / IMAGES, name)))
    if not samples:
        counts = ", ".join(f"{split} {count}" for split, count in sorted(there.items())) or "nothing"
        raise DataError(f"{DESCRIPTIONS} has no records of split {request.split}; there: {counts}")
    images = files_in(folder / IMAGES)
    missing = tuple(sample.id for sample in samples if sample.images[0].name not in images)
    return finish(samples, DESCRIPTIONS, None, missing)


def from_demo(request: DataRequest) -> Dataset:
    """Drawn scenes with paragraphs that say all there is, see pgbench.demo.benchmarks. Raises DataError."""
    from pgbench.demo.benchmarks import docci, drawn

    check_split(request)
    rows = docci.drawn(request)
    samples = [read_sample(row.record, row.where, row.image) for row in rows]
    return drawn.shown(finish(samples, drawn.ID, None, ()), rows)


def check_split(request: DataRequest) -> None:
    if request.split not in SPLITS:
        raise DataError(unknown("split of docci", request.split, SPLITS))


def belongs(example: str, split: str) -> bool:
    """docci.py's second condition: test_00001 is of split test."""
    return example.startswith(f"{split}_")


def json_lines(folder: Path, name: str) -> Iterator[tuple[str, Record]]:
    """(where, record) of a JSON Lines file, one line in memory at a time; blank lines are passed over.

    Lines end at \\n alone: the bytes are cut, not the text, since a description may hold U+2028.
    Raises DataError: not there, unreadable, a line that is no JSON object.
    """
    try:
        for number, line in enumerate((folder / name).read_bytes().split(b"\n"), 1):
            if line.strip():
                where = f"{name} line {number}"
                yield where, parse(line, where)
    except FileNotFoundError as exc:
        raise DataError(f"{name} is not in {folder}; there: {listing(folder)}") from exc
    except OSError as exc:
        raise DataError(f"{name} cannot be read: {exc.strerror}") from exc


def parse(line: bytes, where: str) -> Record:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as exc:  # no UTF-8; an integer of more digits than Python reads
        reason = exc.msg if isinstance(exc, json.JSONDecodeError) else type(exc).__name__
        raise DataError(f"{where} is not JSON: {reason}; download it again") from exc
    if not isinstance(record, dict):
        raise DataError(f"{where} should be an object, got {kind(record)}")
    return record


def example_id(record: Record, where: str) -> str:
    """Raises DataError; it names the image on the hub, hence must be a plain name."""
    return check_name(text(field(record, "example_id", where), "example_id", where), where)


def read_sample(record: Record, where: str, image: Image) -> Sample:
    """One record of either layout. Raises DataError naming the record and the field."""
    example = example_id(record, where)
    description = text(field(record, "description", where), "description", where)
    if not description.strip():
        raise DataError(f"{where} ({example}): field 'description' is empty; every image has one")
    return Sample(
        id=example,
        images=(image,),
        question="",
        target=description,
        cluster=image.name.removesuffix(".jpg"),
    )


def finish(samples: Sequence[Sample], name: str, revision: str | None, missing: tuple[str, ...]) -> Dataset:
    check_unique((sample.id for sample in samples), name)
    return Dataset(tuple(samples), digest(samples), name, revision, missing)


TASK = Task(
    name="docci",
    version=1,
    title="DOCCI: long descriptions of photographs",
    sources={"hub": from_hub, "files": from_files, "demo": from_demo},
    splits=SPLITS,
    prompt=prompt,
    gold=gold,
    metrics=METRICS,
    pixels=Pixels(antialias=False, text_len=32),
    max_new_tokens=192,
    cite=BIBTEX,
    licence="CC BY 4.0",
    modes=("generate", "likelihood"),
    likelihood=LikelihoodMode(
        continuations=lambda sample, _profile, _variant: (gold(sample),),
        right=lambda _sample: (0,),
        metrics=(PERPLEXITY,),
    ),
)
