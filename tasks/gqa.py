"""GQA: compositional questions about Visual Genome photographs (Hudson and Manning, CVPR 2019).

Layouts: the original files of https://cs.stanford.edu/people/dorarad/gqa, questions1.2.zip and images.zip,
with the choices of eval.zip where they lie beside them; and the parquet copy lmms-lab/GQA on the hub, a
table of questions and a table of images for each split.
Splits: `testdev` and `val` are the balanced questions, which alone are scored. `testdev_all` and `val_all`
ask the unbalanced ones as well, as the official script wants it for consistency; their other numbers are
those of the balanced questions. There are no choices for testdev, so no validity and no plausibility.
Prompt: `answer en {question}`, google-research/big_vision@0127fb6,
big_vision/configs/proj/paligemma/transfers/gqa.py: text_len 32, no antialiasing.
Deviation: the script's grounding score is left out, since it needs attention maps over the image.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from sys import intern
from typing import TypeAlias

from pgbench.errors import DataError, unknown
from pgbench.metrics.gqa import METRICS, steps_of, words_of
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
from pgbench.sources.json_members import json_members
from pgbench.types import DataRequest, Dataset, Image, Pixels, Profile, Sample, Task

Record: TypeAlias = Mapping[str, object]

HUB_ID = "lmms-lab/GQA"
SPLITS = {"testdev": 12_578, "val": 132_062, "testdev_all": 172_174, "val_all": 2_011_853}
ALIASES = {"validation": "val"}
NEEDED = ("id", "imageId", "question", "isBalanced", "answer")
KNOWN = ("groups", "types", "semantic", "entailed")  # what a copy of the questions may have left out

OPERATION = {"operation", "argument"}
UNBALANCED: Mapping[str, object] = {"balanced": False}
NO_GROUPS: Mapping[str, str] = {}

BIBTEX = """@inproceedings{hudson2019gqa,
  title     = {{GQA}: A New Dataset for Real-World Visual Reasoning and Compositional Question Answering},
  author    = {Hudson, Drew A. and Manning, Christopher D.},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  pages     = {6700--6709},
  year      = {2019}
}"""


def prompt(sample: Sample, profile: Profile, _variant: str) -> str:
    """The question as published, in PaliGemma's words or bare (GQA's own models read the question alone)."""
    question = sample.question.strip()  # the processor adds the only "\n" that may end a prompt
    return question if profile.style == "official" else f"answer en {question}"


def gold(sample: Sample) -> str:
    return sample.target if isinstance(sample.target, str) else ""


def from_files(request: DataRequest) -> Dataset:
    """The original layout below --data, read record by record. Raises DataError.

    {split}_balanced_questions.json, or where it is absent the balanced ones of {split}_all_questions.json
    or {split}_all_questions/{split}_all_questions_*.json; images/{imageId}.jpg; {split}_choices.json or
    {split}_choices/*.json, which may be absent.
    """
    split = split_of(request)
    tier = split.removesuffix("_all")
    stems = [f"{tier}_balanced_questions"] if split == tier else []
    stems.append(f"{tier}_all_questions")
    folder = data_folder(request.path, f"{stems[0]}.json and images/")
    files = next((found for stem in stems if (found := parts(folder, stem))), [])
    if not files:
        raise DataError(f"{' or '.join(stems)}.json is not in {folder}; there: {listing(folder)}")
    there = files_in(folder / "images")
    images: dict[str, Image] = {}
    samples, missing = [], []
    for name, key, record in json_members(folder, files):
        where = f"{name} question {key}"
        if split == tier and not is_balanced(record, where):
            continue
        image_id = image_of(record, where)
        image = images.setdefault(image_id, image_file(folder / "images", f"{image_id}.jpg"))
        samples.append(read_sample(key, record, where, image))
        if image.name not in there:
            missing.append(key)
    chosen = with_choices(samples, folder, parts(folder, f"{tier}_choices"))
    return finish(chosen, files[0].split("/")[0], None, tuple(missing))


def from_hub(request: DataRequest) -> Dataset:
    """lmms-lab/GQA, or a folder of its shape, balanced splits alone. Raises DataError, HubError."""
    from pgbench.sources.parquet import parquet_rows

    split = split_of(request)
    if split.endswith("_all"):
        raise DataError(
            f"split {split} is for consistency, and hub copies of GQA hold entailed questions as plain "
            "text; use the original files with --source files"
        )
    if request.path is not None and Path(request.path).is_file():
        raise DataError(f"{request.path} is one file; GQA needs a folder with questions and images")
    config = (f"{split}_balanced_instructions",)
    first = parquet_rows(request, HUB_ID, config, fields=NEEDED, images=())
    pinned = DataRequest(request.split, request.path, request.id, first.revision or request.revision)
    fields = (*NEEDED, *(one for one in KNOWN if one in columns(first.folder, config[0])))
    rows = parquet_rows(pinned, HUB_ID, config, fields=fields, images=())
    pictures = parquet_rows(pinned, HUB_ID, (f"{split}_balanced_images",), fields=("id",))
    at = {one["id"]: index for index, one in enumerate(pictures.fields("id"))}
    empty = pictures.without_image()
    samples, missing = [], []
    for index, record in enumerate(rows.fields(*fields)):
        where = f"{rows.id} row {index}"
        image_id = image_of(record, where)
        key = text(field(record, "id", where), "id", where)
        row = at.get(image_id, -1)
        image = pictures.image(row, f"{image_id}.jpg") if row >= 0 else Image(f"{image_id}.jpg", absent)
        samples.append(read_sample(key, record, f"{where} (id {key})", image))
        if row < 0 or row in empty:
            missing.append(key)
    return finish(samples, rows.id, rows.revision, tuple(missing))


def columns(folder: Path, config: str) -> Sequence[str]:
    """The columns of the first parquet file of a config that `parquet_rows` has found in this folder."""
    import pyarrow.parquet as pq

    files = sorted(one for one in folder.glob("*.parquet") if config in f"{folder.name}/{one.name}")
    found: Sequence[str] = pq.read_schema(files[0]).names if files else ()
    return found


def absent() -> bytes:
    raise OSError("the table of images has no row for it")


def split_of(request: DataRequest) -> str:
    split = ALIASES.get(request.split, request.split)
    if split not in SPLITS:
        raise DataError(unknown("split of gqa", request.split, SPLITS))
    return split


def parts(folder: Path, stem: str) -> list[str]:
    """stem.json, or the chunks in stem/ in the order of their numbers, as the official script looks."""
    if (folder / f"{stem}.json").is_file():
        return [f"{stem}.json"]
    found = (path.name for path in (folder / stem).glob(f"{stem}_*.json"))
    chunks = sorted(found, key=lambda name: ([int(one) for one in re.findall(r"\d+", name)], name))
    return [f"{stem}/{name}" for name in chunks]


def image_of(record: Record, where: str) -> str:
    """An image id is a text; some begin with n, and leading zeros count. Raises DataError."""
    return intern(check_name(text(field(record, "imageId", where), "imageId", where), where))


def is_balanced(record: Record, where: str) -> bool:
    value = field(record, "isBalanced", where)
    if not isinstance(value, bool):
        raise DataError(f"{where}: field 'isBalanced' should be true or false, got {kind(value)}")
    return value


def read_sample(key: str, record: Record, where: str, image: Image) -> Sample:
    """One record of either layout. Raises DataError naming the record and the field.

    What only scored questions need is kept for them alone: there are 15 unbalanced ones to each.
    """
    question = text(field(record, "question", where), "question", where)
    scored = is_balanced(record, where)
    return Sample(
        id=key,
        images=(image,),
        question=question,
        target=intern(text(field(record, "answer", where), "answer", where)),
        fields={"balanced": True, **facts(record, where)} if scored else UNBALANCED,
        groups=breakdowns(record, question) if scored else NO_GROUPS,
        cluster=image.name.removesuffix(".jpg"),
    )


def facts(record: Record, where: str) -> dict[str, object]:
    """What the metrics read, see pgbench.metrics.gqa; what is absent or flattened to text is unknown."""
    found: dict[str, object] = {}
    types, entailed = record.get("types"), record.get("entailed")
    if isinstance(types, dict):
        structural, detailed = types.get("structural"), types.get("detailed")
        found |= {"structural": intern(structural)} if isinstance(structural, str) else {}
        found |= {"common": "Common" in detailed} if isinstance(detailed, str) else {}
    groups = record.get("groups")
    if isinstance(groups, dict) and groups.get("global") is not None:
        found["global"] = intern(text(groups["global"], "groups.global", where))
    if isinstance(entailed, list):
        found["entailed"] = tuple(text(one, "entailed", where) for one in entailed)
    return found


def breakdowns(record: Record, question: str) -> dict[str, str]:
    """The official breakdowns, as far as the record tells."""
    found = {"words": intern(str(words_of(question)))}
    types, semantic = record.get("types"), record.get("semantic")
    if isinstance(types, dict):
        both = {name: types.get(name) for name in ("structural", "semantic")}
        found |= {name: intern(value) for name, value in both.items() if isinstance(value, str)}
    if isinstance(semantic, list) and all(
        isinstance(one, dict) and one.keys() >= OPERATION for one in semantic
    ):
        found["steps"] = intern(str(steps_of(semantic)))
    return found


def with_choices(samples: Sequence[Sample], folder: Path, names: Sequence[str]) -> Sequence[Sample]:
    """The samples, scored ones with their valid and plausible answers where there are choices files.

    Raises DataError where the files lack a scored question: a mean over the others would pass for the whole.
    """
    if not names:
        return samples
    wanted = {sample.id for sample in samples if sample.fields["balanced"]}
    lists: dict[tuple[str, ...], tuple[str, ...]] = {}  # questions share their lists
    choices: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, key, record in json_members(folder, names):
        if key in wanted:
            both = {
                one: read_choices(record, one, f"{name} question {key}") for one in ("valid", "plausible")
            }
            choices[key] = {one: lists.setdefault(found, found) for one, found in both.items()}
    lacking = sorted(wanted - choices.keys())
    if lacking:
        raise DataError(
            f"{names[0]}: {len(lacking)} scored questions have no choices, the first is {lacking[0]}; "
            "take the whole file, or none"
        )
    return [
        replace(one, fields={**one.fields, **choices[one.id]}) if one.id in choices else one
        for one in samples
    ]


def read_choices(record: Record, key: str, where: str) -> tuple[str, ...]:
    values = field(record, key, where)
    if not isinstance(values, list):
        raise DataError(f"{where}: field {key!r} should be a list of answers, got {kind(values)}")
    return tuple(text(one, key, where) for one in values)


def finish(samples: Sequence[Sample], name: str, revision: str | None, missing: tuple[str, ...]) -> Dataset:
    """The data set; its digest covers what scores depend on besides: entailment, types and choices."""
    if not samples:
        raise DataError(f"{name} holds no balanced question, and only these are scored; take another file")
    check_unique((sample.id for sample in samples), name)
    whole = hashlib.sha256(digest(samples).encode())
    for sample in samples:
        whole.update(json.dumps([dict(sample.fields), dict(sample.groups)], sort_keys=True).encode())
    return Dataset(tuple(samples), whole.hexdigest(), name, revision, missing)


TASK = Task(
    name="gqa",
    version=1,
    title="GQA: compositional questions about photographs",
    sources={"hub": from_hub, "files": from_files},
    splits=SPLITS,
    prompt=prompt,
    gold=gold,
    metrics=METRICS,
    pixels=Pixels(antialias=False, text_len=32),
    max_new_tokens=32,
    cite=BIBTEX,
    licence="CC BY 4.0",
)
