"""POPE: is an object in the picture? Three settings of 3,000 yes-no questions (Li et al., EMNLP 2023).

One run asks all three settings: random, popular, adversarial. The same 500 pictures occur in each, so the
picture is the cluster across all three, and a sample's id is its setting and question_id (`random-1`):
question_id alone starts at 1 in each setting.
Layouts: coco_pope_{setting}.json as in AoiDragon/POPE, output/coco, with COCO's val2014/ beside them, and the
parquet copy lmms-lab/POPE on the hub. The files are JSON Lines in spite of their name; arrays with the same
keys, the form of output/seem, are read as well.
Split test: 3,000 questions a setting. Until commit 7ef3026 the random setting had 2,910 questions, which is
what LLaVA links to (@e3e39262): split test_2910 asks for those files and for no others. Read as split test,
they are marked as 8,910 of 9,000. The data set's id says the counts.
Prompt: `answer en {question}` as in Beyer et al. 2024 (arXiv:2407.07726), appendix B.37; the default of
google-research/big_vision@0127fb6, big_vision/configs/proj/paligemma/transfers/pope.py, is the bare question.
From there: text_len 48, not antialiased. Contamination: these pictures were in VQAv2's training set.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pgbench.errors import DataError, unknown
from pgbench.metrics.likelihood import NO, YES, YES_NO
from pgbench.metrics.pope import METRICS, SETTINGS
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
from pgbench.submissions.read import by_question, generic
from pgbench.types import DataRequest, Dataset, Image, LikelihoodMode, Pixels, Profile, Sample, Task

Record: TypeAlias = Mapping[str, object]

HUB_ID = "lmms-lab/POPE"
SPLITS = {"test": 9_000, "test_2910": 8_910}
OLD_RANDOM = 2_910
FIELDS = ("question_id", "question", "answer", "image_source", "category")
IMAGES = "val2014"
LAYOUT = f"coco_pope_random.json, coco_pope_popular.json, coco_pope_adversarial.json and {IMAGES}/"

BIBTEX = """@inproceedings{li2023evaluating,
  title     = {Evaluating Object Hallucination in Large Vision-Language Models},
  author    = {Li, Yifan and Du, Yifan and Zhou, Kun and Wang, Jinpeng and Zhao, Wayne Xin and Wen, Ji-Rong},
  booktitle = {Proceedings of the 2023 Conference on Empirical Methods in Natural Language Processing},
  pages     = {292--305},
  year      = {2023}
}"""


def prompt(sample: Sample, profile: Profile, _variant: str) -> str:
    """The question as published, in PaliGemma's words or bare."""
    question = sample.question.strip()
    return question if profile.style == "official" else f"answer en {question}"


def gold(sample: Sample) -> str:
    return sample.target if isinstance(sample.target, str) else ""


def from_hub(request: DataRequest) -> Dataset:
    """lmms-lab/POPE (one split, all settings), or a folder or parquet file of its shape.

    Raises DataError, HubError.
    """
    from pgbench.sources.parquet import parquet_rows

    check_split(request)
    rows = parquet_rows(request, HUB_ID, ("test",), fields=FIELDS)
    samples = []
    for index, record in enumerate(rows.fields(*FIELDS)):
        where = f"{rows.id} row {index}"
        name = text(field(record, "image_source", where), "image_source", where)
        name = check_name(name, where).removesuffix(".jpg") + ".jpg"  # published without the ending
        setting = text(field(record, "category", where), "category", where)
        label = field(record, "answer", where)
        samples.append(
            read_sample(record, setting, "question", label, rows.image(index, name), where),
        )
    missing = tuple(samples[index].id for index in sorted(rows.without_image()))
    return finish(request, samples, rows.id, rows.revision, missing)


def from_files(request: DataRequest) -> Dataset:
    """The authors' three files below --data, and COCO's val2014/ beside them. Raises DataError."""
    check_split(request)
    folder = data_folder(request.path, LAYOUT)
    samples, counts = [], []
    for setting in SETTINGS:
        name = f"coco_pope_{setting}.json"
        records = read_records(folder, name)
        counts.append(f"{setting} {len(records)}")
        for number, record in enumerate(records, 1):
            where = f"{name} record {number}"
            image = check_name(text(field(record, "image", where), "image", where), where)
            label = field(record, "label", where)
            found = image_file(folder / IMAGES, image)
            samples.append(read_sample(record, setting, "text", label, found, where))
    there = files_in(folder / IMAGES)
    missing = tuple(sample.id for sample in samples if sample.images[0].name not in there)
    return finish(request, samples, f"coco_pope ({', '.join(counts)})", None, missing)


def from_demo(request: DataRequest) -> Dataset:
    """Drawn scenes as the authors' records, see pgbench.demo.benchmarks. Raises DataError."""
    from pgbench.demo.benchmarks import drawn, pope

    check_split(request)
    found = pope.drawn(request)
    samples = [
        read_sample(row.record, setting, "text", row.record["label"], row.image, row.where)
        for setting, rows in found.items()
        for row in rows
    ]
    data = finish(request, samples, drawn.ID, None, ())
    return drawn.shown(data, [row for rows in found.values() for row in rows])


def check_split(request: DataRequest) -> None:
    if request.split not in SPLITS:
        raise DataError(unknown("split of pope", request.split, SPLITS))


def read_records(folder: Path, name: str) -> list[Record]:
    """The objects of a JSON Lines file, or of a JSON array. Raises DataError with the line."""
    try:
        content = (folder / name).read_text(encoding="utf-8-sig")
    except FileNotFoundError as exc:
        raise DataError(f"{name} is not in {folder}; there: {listing(folder)}") from exc
    except OSError as exc:
        raise DataError(f"{name} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise DataError(f"{name} is not JSON Lines: it is no UTF-8; download it again") from exc
    if content.lstrip().startswith("["):
        records = parse(content, name)
        found = records if isinstance(records, list) else []
    else:
        # split("\n"), not splitlines(): a question may hold U+2028, which ends no line of JSON Lines
        lines = enumerate(content.split("\n"), 1)
        found = [parse(line, f"{name} line {number}") for number, line in lines if line.strip()]
    if not found:
        raise DataError(f"{name} holds no questions; download it again")
    for number, record in enumerate(found, 1):
        if not isinstance(record, dict):
            raise DataError(f"{name} record {number} should be an object, got {kind(record)}")
    return found


def parse(content: str, where: str) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as exc:
        reason = exc.msg if isinstance(exc, json.JSONDecodeError) else "too deep, or a number too long"
        raise DataError(f"{where} is not JSON: {reason}; download it again") from exc


def read_sample(
    record: Record, setting: str, question_key: str, label: object, image: Image, where: str
) -> Sample:
    """One question of either layout. Raises DataError naming the record and what is wrong with it."""
    number = field(record, "question_id", where)  # a whole number in the files, the same as text on the hub
    digits = str(number)
    if isinstance(number, bool) or not (digits.isascii() and digits.isdecimal()):
        raise DataError(f"{where}: field 'question_id' should be a whole number, got {kind(number)}")
    where = f"{where} (question_id {number})"
    if setting not in SETTINGS:
        raise DataError(f"{where}: {unknown('setting', setting, SETTINGS)}")
    if label not in ("yes", "no"):  # the script would take No, or a typing error, for a yes
        raise DataError(f"{where}: the label should be 'yes' or 'no', got {kind(label)}")
    return Sample(
        id=f"{setting}-{int(digits)}",
        images=(image,),
        question=text(field(record, question_key, where), question_key, where),
        target=str(label),
        groups={"setting": setting},
        cluster=image.name.removesuffix(".jpg"),
    )


def finish(
    request: DataRequest,
    samples: Sequence[Sample],
    name: str,
    revision: str | None,
    missing: tuple[str, ...],
) -> Dataset:
    check_unique((sample.id for sample in samples), name)
    counts = Counter(sample.groups["setting"] for sample in samples)
    lacking = [setting for setting in SETTINGS if not counts[setting]]
    if lacking:
        raise DataError(
            f"{name} has no {lacking[0]} questions; POPE is run over {', '.join(SETTINGS)} together"
        )
    if request.split == "test_2910" and counts["random"] != OLD_RANDOM:
        raise DataError(
            f"{name} has {counts['random']} random questions, split test_2910 has {OLD_RANDOM}; "
            "take --split test, or coco_pope_random.json of AoiDragon/POPE at commit e3e39262"
        )
    return Dataset(tuple(samples), digest(samples), name, revision, missing)


def results(document: object, samples: Sequence[Sample]) -> Mapping[str, str]:
    """The authors' answers, {"question", "answer"} in the order of a setting's questions and without an id;
    records with question_id and setting (or category); or any form with whole ids. Raises DataError.
    """
    records = document if isinstance(document, list) else [document]
    first = records[0] if records and isinstance(records[0], dict) else {}
    if first.keys() & {"setting", "category"} and "question_id" in first:
        return generic([joined_id(record, f"record {n}") for n, record in enumerate(records, 1)])
    if {"question", "answer"} <= first.keys() and not first.keys() & {"id", "sample_id", "question_id"}:
        settings = {name: [one for one in samples if one.groups["setting"] == name] for name in SETTINGS}
        return by_question(records, settings)
    return generic(document)


def joined_id(record: object, where: str) -> object:
    """The record with a sample's id. Raises DataError."""
    if not isinstance(record, dict):
        return record
    setting = record.get("setting", record.get("category"))
    if setting not in SETTINGS:
        raise DataError(f"{where}: {unknown('setting', str(setting), SETTINGS)}")
    named = f"{setting}-{field(record, 'question_id', where)}"
    mute = {"question_id", "text"} if "answer" in record else {"question_id"}  # `text` is the question there
    return {**{key: value for key, value in record.items() if key not in mute}, "id": named}


TASK = Task(
    name="pope",
    version=1,
    title="POPE: object hallucination, three settings",
    sources={"hub": from_hub, "files": from_files, "demo": from_demo},
    splits=SPLITS,
    prompt=prompt,
    gold=gold,
    metrics=METRICS,
    pixels=Pixels(antialias=False, text_len=48),
    max_new_tokens=48,
    cite=BIBTEX,
    licence="MIT (questions); COCO images under the terms of Flickr",
    results=results,
    modes=("generate", "likelihood"),
    likelihood=LikelihoodMode(
        continuations=lambda _sample, _profile, _variant: (YES, NO),
        right=lambda sample: ((YES, NO).index(str(sample.target)),),
        metrics=YES_NO,
    ),
)
