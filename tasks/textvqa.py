"""TextVQA: questions about text in photographs, ten answers each (Singh et al., CVPR 2019).

Layouts: the original files of https://textvqa.org/dataset, version 0.5.1, where the validation images lie in
train_images/ as well, and the parquet copy lmms-lab/textvqa on the hub.
Prompt: `answer en {question}`, google-research/big_vision@0127fb6,
big_vision/configs/proj/paligemma/transfers/textvqa.py: no OCR tokens, text_len 32, antialiased bilinear.
Deviation: big_vision turned some pictures upright by a table; here EXIF decides (types.IMAGE_RULE).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from pgbench.errors import DataError, unknown
from pgbench.metrics.vqa import PAPER_ACCURACY, TEXTVQA_ACCURACY, paper_accuracy, textvqa_accuracy
from pgbench.sources.files import (
    check_name,
    check_unique,
    data_folder,
    digest,
    field,
    files_in,
    image_file,
    kind,
    read_json,
    record_list,
    text,
)
from pgbench.submissions.write import json_array, question_answer
from pgbench.types import DataRequest, Dataset, Image, Pixels, Profile, Sample, Submission, Task

Record: TypeAlias = Mapping[str, object]

HUB_ID = "lmms-lab/textvqa"
SPLITS = {"val": 5_000, "test": 5_734, "train": 34_602}
ALIASES = {"validation": "val"}
FIELDS = ("question_id", "question", "image_id", "answers")
IMAGES = {"train": "train_images", "val": "train_images", "test": "test_images"}
ANSWERS = 10  # mmf's scorer asserts it: mmf/utils/m4c_evaluators.py@b0ffc7f

BIBTEX = """@inproceedings{singh2019towards,
  title     = {Towards {VQA} Models That Can Read},
  author    = {Singh, Amanpreet and Natarajan, Vivek and Shah, Meet and Jiang, Yu and Chen, Xinlei and
               Batra, Dhruv and Parikh, Devi and Rohrbach, Marcus},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  pages     = {8317--8326},
  year      = {2019}
}"""


def prompt(sample: Sample, profile: Profile, _variant: str) -> str:
    """The question as published, in PaliGemma's words or bare (mmf's models read the question alone).

    Trap: the processor tokenizes its "\\n" together with the prompt, so white space at the end would give
    other tokens than big_vision's. Trap: to capitalize or lower a question hides the text that it quotes.
    """
    question = sample.question.strip()
    return question if profile.style == "official" else f"answer en {question}"


def gold(sample: Sample) -> str:
    """The reference that scores best: by the official metric, then by the paper's, then the first."""
    if not isinstance(sample.target, tuple):
        return ""
    answers = sample.target

    def worth(answer: str) -> tuple[float, float]:
        official = textvqa_accuracy(prediction=answer, answers=answers)
        return official, paper_accuracy(prediction=answer, answers=answers)

    return max(dict.fromkeys(answers), key=worth)


def from_hub(request: DataRequest) -> Dataset:
    """lmms-lab/textvqa, or a folder or parquet file of its shape. Raises DataError, HubError."""
    from pgbench.sources.parquet import parquet_rows

    split = split_of(request)
    split_names = ("validation", "val") if split == "val" else (split,)
    rows = parquet_rows(request, HUB_ID, split_names, fields=FIELDS)
    samples = []
    for index, record in enumerate(rows.fields(*FIELDS)):
        where = f"{rows.id} row {index}"
        samples.append(read_sample(record, where, rows.image(index, image_name(record, where))))
    missing = tuple(samples[index].id for index in sorted(rows.without_image()))
    return finish(samples, rows.id, rows.revision, missing)


def from_files(request: DataRequest) -> Dataset:
    """The original layout below --data: TextVQA_0.5.1_{split}.json and its image folder. Raises DataError."""
    split = split_of(request)
    name = f"TextVQA_0.5.1_{split}.json"
    folder = data_folder(request.path, f"{name} and {IMAGES[split]}/")
    records = record_list(read_json(folder, name), name, "data")
    images = folder / IMAGES[split]
    samples = []
    for index, record in enumerate(records):
        where = f"{name} record {index}"
        samples.append(read_sample(record, where, image_file(images, image_name(record, where))))
    there = files_in(images)
    missing = tuple(sample.id for sample in samples if sample.images[0].name not in there)
    return finish(samples, name, None, missing)


def from_demo(request: DataRequest) -> Dataset:
    """Drawn signs, see pgbench.demo.signs; of id world, scenes of pgbench.demo.world. Raises DataError."""
    from pgbench.demo import signs
    from pgbench.demo.benchmarks import drawn, textvqa

    request = replace(request, split=split_of(request))
    if request.id not in drawn.NAMES:
        return signs.textvqa(request)
    rows = textvqa.drawn(request)
    samples = [read_sample(row.record, row.where, row.image) for row in rows]
    return drawn.shown(finish(samples, drawn.ID, None, ()), rows)


def split_of(request: DataRequest) -> str:
    split = ALIASES.get(request.split, request.split)
    if split not in SPLITS:
        raise DataError(unknown("split of textvqa", request.split, SPLITS))
    return split


def image_name(record: Record, where: str) -> str:
    """{image_id}.jpg; an image_id is a hexadecimal text whose leading zeros count. Raises DataError."""
    return check_name(text(field(record, "image_id", where), "image_id", where), where) + ".jpg"


def read_sample(record: Record, where: str, image: Image) -> Sample:
    """One record of either layout. Raises DataError naming the record and the field."""
    number = field(record, "question_id", where)
    if isinstance(number, bool) or not isinstance(number, int):
        raise DataError(f"{where}: field 'question_id' should be a whole number, got {kind(number)}")
    where = f"{where} (question_id {number})"
    return Sample(
        id=str(number),
        images=(image,),
        question=text(field(record, "question", where), "question", where),
        target=references(record.get("answers"), where),
        cluster=image.name.removesuffix(".jpg"),
    )


def references(answers: object, where: str) -> tuple[str, ...] | None:
    """Ten answers; None where there are none: test records lack the field or hold ten empty texts."""
    if answers is None:
        return None
    if not isinstance(answers, list):
        raise DataError(f"{where}: field 'answers' should be a list of {ANSWERS}, got {kind(answers)}")
    found = tuple(text(answer, "answers", where) for answer in answers)
    if not any(answer.strip() for answer in found):
        return None
    if len(found) != ANSWERS:
        raise DataError(
            f"{where}: field 'answers' has {len(found)} answers, the official scorer takes {ANSWERS}"
        )
    return found


def finish(samples: Sequence[Sample], name: str, revision: str | None, missing: tuple[str, ...]) -> Dataset:
    check_unique((sample.id for sample in samples), name)
    return Dataset(tuple(samples), digest(samples), name, revision, missing)


TASK = Task(
    name="textvqa",
    version=1,
    title="TextVQA: questions about text in photographs",
    sources={"hub": from_hub, "files": from_files, "demo": from_demo},
    splits=SPLITS,
    aliases=ALIASES,
    prompt=prompt,
    gold=gold,
    metrics=(TEXTVQA_ACCURACY, PAPER_ACCURACY),
    pixels=Pixels(antialias=True, text_len=32),
    max_new_tokens=32,
    cite=BIBTEX,
    licence="CC BY 4.0",
    submission=Submission(
        splits={"test": "test"},
        suffix=".json",
        pieces=json_array(question_answer),
        server="EvalAI challenge 551 (mmf's documentation), https://eval.ai/web/challenges/challenge-page/551",
    ),
)
