"""GQA: compositional questions about Visual Genome photographs (Hudson and Manning, CVPR 2019).

Layouts: the original files of https://cs.stanford.edu/people/dorarad/gqa, questions1.2.zip and images.zip,
with the choices of eval.zip where they lie beside them; and the parquet copy lmms-lab/GQA on the hub, a
table of questions and a table of images for each split.
Splits: `testdev` and `val` are the balanced questions, which alone are scored. `testdev_all` and `val_all`
ask the unbalanced ones as well, as the official script wants it for consistency; their other numbers are
those of the balanced questions. There are no choices for testdev, so no validity and no plausibility.
`test`, `challenge` and `submission_all` are published without answers: run, not scored.
Prompt: `answer en {question}`, google-research/big_vision@0127fb6,
big_vision/configs/proj/paligemma/transfers/gqa.py: text_len 32, no antialiasing.
Deviation: the script's grounding score is left out, since it needs attention maps over the image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from sys import intern
from typing import TypeAlias

from pgbench.errors import DataError, unknown
from pgbench.metrics.gqa import METRICS, breakdowns
from pgbench.sources.blind import blind_set
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
from pgbench.sources.json_members import chunks, json_members
from pgbench.submissions.write import json_array
from pgbench.types import DataRequest, Dataset, Image, Pixels, Profile, Sample, Submission, Task

Record: TypeAlias = Mapping[str, object]
Keyed: TypeAlias = Iterable[tuple[str, str, Record]]

HUB_ID = "lmms-lab/GQA"
SPLITS = {"testdev": 12_578, "val": 132_062, "testdev_all": 172_174, "val_all": 2_011_853}
SPLITS |= {"test": 95_336, "challenge": 50_726, "test_all": 1_340_048, "challenge_all": 713_449}
SPLITS |= {"submission_all": 4_237_524}  # the sum of the four _all; its own size is published nowhere
BLIND = ("test", "challenge", "submission")  # published without answers
ALIASES = {"validation": "val"} | {f"{one}_balanced": one for one in SPLITS if "_" not in one}
NEEDED = ("id", "imageId", "question", "isBalanced", "answer")
KNOWN = ("groups", "types", "semantic", "entailed")  # what a copy of the questions may have left out
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
    files = next((found for stem in stems if (found := chunks(folder, stem))), [])
    if not files:
        raise DataError(f"{' or '.join(stems)}.json is not in {folder}; there: {listing(folder)}")
    there = files_in(folder / "images")
    if tier in BLIND:
        records = ((f"{name} question {key}", key, one) for name, key, one in json_members(folder, files))
        name = files[0].split("/")[0]
        return blind_set(
            asked(records, split), lambda one: image_file(folder / "images", f"{one}.jpg"), there, name
        )
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
    listed = chunks(folder, f"{tier}_choices")
    chosen = with_choices(samples, json_members(folder, listed), next(iter(listed), ""))
    return finish(chosen, files[0].split("/")[0], None, tuple(missing))


def from_hub(request: DataRequest) -> Dataset:
    """lmms-lab/GQA or a folder of its shape; of scored splits the balanced. Raises DataError, HubError."""
    from pgbench.sources.parquet import bring, parquet_rows

    split = split_of(request)
    blind = split.removesuffix("_all") in BLIND
    if split.endswith("_all") and not blind:
        raise DataError(
            f"split {split} is for consistency, and hub copies of GQA hold entailed questions as plain "
            "text; use the original files with --source files"
        )
    if request.path is not None and Path(request.path).is_file():
        raise DataError(f"{request.path} is one file; GQA needs a folder with questions and images")
    stem = split if split.endswith("_all") else f"{split}_balanced"
    config, images = (f"{stem}_instructions",), (f"{stem}_images",)
    pinned = bring(request, HUB_ID, (*config, *images))
    needed, known = (NEEDED[:-1], ()) if blind else (NEEDED, KNOWN)
    rows = parquet_rows(pinned, HUB_ID, config, fields=needed, images=(), optional=known)
    pictures = parquet_rows(pinned, HUB_ID, images, fields=("id",))
    at = {one["id"]: index for index, one in enumerate(pictures.fields("id"))}
    empty = pictures.without_image()

    def picture(one: str) -> Image:
        return pictures.image(at[one], f"{one}.jpg") if one in at else Image(f"{one}.jpg", absent)

    records = keyed(rows.stream(), rows.id)
    if blind:
        there = {f"{one}.jpg" for one, row in at.items() if row not in empty}
        return blind_set(asked(records, split), picture, there, rows.id, rows.revision)
    samples, missing = [], []
    for where, key, record in records:
        image_id = image_of(record, where)
        samples.append(read_sample(key, record, where, picture(image_id)))
        if image_id not in at or at[image_id] in empty:
            missing.append(key)
    return finish(samples, rows.id, rows.revision, tuple(missing))


def from_demo(request: DataRequest) -> Dataset:
    """Drawn scenes as the authors' records, see pgbench.demo.benchmarks. Raises DataError."""
    from pgbench.demo.benchmarks import drawn, gqa

    split = split_of(request)
    rows = gqa.drawn(replace(request, split=split))
    samples = [read_sample(str(row.record["id"]), row.record, row.where, row.image) for row in rows]
    chosen = with_choices(samples, gqa.choices(rows), gqa.CHOICES.get(split, ""))
    return drawn.shown(finish(chosen, drawn.ID, None, ()), rows)


def keyed(rows: Iterable[Record], name: str) -> Iterator[tuple[str, str, Record]]:
    """(where, id, record) of the hub's rows. Raises DataError."""
    for index, record in enumerate(rows):
        key = text(field(record, "id", f"{name} row {index}"), "id", f"{name} row {index}")
        yield f"{name} row {index} (id {key})", key, record


def asked(records: Keyed, split: str) -> Iterator[tuple[str, str, str]]:
    """(id, image id, question) of records without answers. Raises DataError."""
    for where, key, record in records:
        if split.endswith("_all") or is_balanced(record, where):
            yield key, image_of(record, where), text(field(record, "question", where), "question", where)


def absent() -> bytes:
    raise OSError("the table of images has no row for it")


def split_of(request: DataRequest) -> str:
    split = ALIASES.get(request.split, request.split)
    if split not in SPLITS:
        raise DataError(unknown("split of gqa", request.split, SPLITS))
    return split


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
        groups={k: intern(v) for k, v in breakdowns(record, question).items()} if scored else NO_GROUPS,
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


def with_choices(samples: Sequence[Sample], found: Keyed, name: str) -> Sequence[Sample]:
    """The samples, scored ones with their valid and plausible answers of (file, id, choices), `name` first.

    Raises DataError where the files lack a scored question: a mean over the others would pass for the whole.
    """
    if not name:
        return samples
    wanted = {sample.id for sample in samples if sample.fields["balanced"]}
    lists: dict[tuple[str, ...], tuple[str, ...]] = {}  # questions share their lists
    choices: dict[str, dict[str, tuple[str, ...]]] = {}
    for file, key, record in found:
        if key in wanted:
            where = f"{file} question {key}"
            both = {one: read_choices(record, one, where) for one in ("valid", "plausible")}
            choices[key] = {one: lists.setdefault(found, found) for one, found in both.items()}
    lacking = sorted(wanted - choices.keys())
    if lacking:
        raise DataError(
            f"{name}: {len(lacking)} scored questions have no choices, the first is {lacking[0]}; "
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
    sources={"hub": from_hub, "files": from_files, "demo": from_demo},
    splits=SPLITS,
    aliases=ALIASES,
    prompt=prompt,
    gold=gold,
    metrics=METRICS,
    pixels=Pixels(antialias=False, text_len=32),
    max_new_tokens=32,
    cite=BIBTEX,
    licence="see https://cs.stanford.edu/people/dorarad/gqa; the copy on the hub says MIT",
    submission=Submission(
        splits=dict.fromkeys(SPLITS, "submission_all"),
        suffix=".json",
        pieces=json_array(lambda one, said: {"questionId": one.id, "prediction": said}),
        server="EvalAI, the GQA challenge (225 when this was written), https://eval.ai/web/challenges",
    ),
)
