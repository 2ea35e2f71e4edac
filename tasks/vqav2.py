"""VQAv2: questions about COCO photographs, ten answers each (Goyal et al., CVPR 2017).

Layouts: the original files of https://visualqa.org/download.html, read record by record, and the parquet copy
lmms-lab/VQAv2 on the hub, which has no train split.
Split minival, of the paper's validation numbers: TFDS's validation[-10240:], the end of the val file; the hub
copy is taken to keep its order. The released checkpoints were trained on all of val.
Prompt: `answer en {question}`, google-research/big_vision@0127fb6,
big_vision/configs/proj/paligemma/transfers/vqav2.py: text_len 32, antialiased bilinear.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, overload

from pgbench.errors import DataError, unknown
from pgbench.metrics.vqa import paper_accuracy
from pgbench.metrics.vqav2 import METRICS, vqav2_accuracy
from pgbench.sources.files import data_folder, digest, files_in, image_file, kind, text
from pgbench.sources.files import field as needed
from pgbench.sources.json_stream import json_records
from pgbench.submissions.write import json_array, question_answer
from pgbench.types import DataRequest, Dataset, Image, Pixels, Profile, Sample, Submission, Task

if TYPE_CHECKING:
    from pathlib import Path

Record: TypeAlias = Mapping[str, object]

HUB_ID = "lmms-lab/VQAv2"
VAL, MINIVAL = 214_354, 10_240
SPLITS = {"val": VAL, "minival": MINIVAL, "testdev": 107_394, "test": 447_793, "train": 443_757}
ALIASES = {"validation": "val", "test-dev": "testdev"}
QUESTIONS = {"val": "val2014", "testdev": "test-dev2015", "test": "test2015", "train": "train2014"}
IMAGES = {**QUESTIONS, "testdev": "test2015"}  # test-dev is a part of test and has no images of its own
ANNOTATED = ("val", "train")
FIELDS = ("question_id", "image_id", "question", "answers", "answer_type", "question_type")
GROUPS = ("answer_type", "question_type")
ANSWERS = 10  # big_vision's evaluator counts on exactly ten, as every published record has them
NO_ANSWERS = -1  # the row of a question without an annotation
BIGGEST = 10**15  # ids are multiples of 1000 of COCO's 12 digits, and rows hold them in 64 bits

BIBTEX = """@inproceedings{goyal2017making,
  title     = {Making the {V} in {VQA} Matter: Elevating the Role of Image Understanding in {V}isual
               {Q}uestion {A}nswering},
  author    = {Goyal, Yash and Khot, Tejas and Summers-Stay, Douglas and Batra, Dhruv and Parikh, Devi},
  booktitle = {Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  pages     = {6904--6913},
  year      = {2017}
}"""


def prompt(sample: Sample, profile: Profile, _variant: str) -> str:
    """The question as published, in PaliGemma's words or, as the benchmark's authors ask it, bare."""
    question = sample.question.strip()
    return question if profile.style == "official" else f"answer en {question}"


def gold(sample: Sample) -> str:
    """The reference that scores best: by the official metric, then by the paper's, then the first.

    Trap: this is not always multiple_choice_answer, which the authors had normalised already: ten people
    who agree on "Yes" must be answered "Yes".
    """
    if not isinstance(sample.target, tuple):
        return ""
    answers = sample.target

    def worth(answer: str) -> tuple[float, float]:
        official = vqav2_accuracy(prediction=answer, answers=answers)
        return official, paper_accuracy(prediction=answer, answers=answers)

    return max(dict.fromkeys(answers), key=worth)


@dataclass(slots=True)
class Questions(Sequence[Sample]):
    """The questions of a split as columns: a question takes about 250 bytes instead of 3,000.

    Samples are built when they are asked for. Answers and groups repeat and are held once.
    """

    image_of: Callable[[int, int], Image]  # (row, image id)
    name: str  # of what is read, for messages
    ids: array[int] = field(default_factory=lambda: array("q"))
    image_ids: array[int] = field(default_factory=lambda: array("q"))
    questions: list[str] = field(default_factory=list)
    answers: array[int] = field(default_factory=lambda: array("i"))  # ANSWERS for each row, in `texts`
    texts: dict[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)  # the inverse of `texts`
    kinds: array[int] = field(default_factory=lambda: array("i"))  # in `groups`
    groups: dict[tuple[str, ...], int] = field(default_factory=lambda: {(): 0})
    views: list[Mapping[str, str]] = field(default_factory=lambda: [{}])
    rows: dict[int, int] = field(default_factory=dict)  # question id -> row

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
        answers = self.answers[row * ANSWERS : (row + 1) * ANSWERS]
        image_id = self.image_ids[row]
        return Sample(
            id=str(self.ids[row]),
            images=(self.image_of(row, image_id),),
            question=self.questions[row],
            target=None if answers[0] == NO_ANSWERS else tuple([self.names[one] for one in answers]),
            groups=self.views[self.kinds[row]],
            cluster=str(image_id),
        )

    def ask(self, record: Record, where: str) -> int:
        """Adds a question, without answers so far; returns its row. Raises DataError."""
        number = whole(record, "question_id", where)
        if number in self.rows:
            raise DataError(f"{self.name}: id {number} occurs twice; every record needs its own")
        where = f"{where} (question_id {number})"
        self.image_ids.append(whole(record, "image_id", where))
        self.questions.append(text(needed(record, "question", where), "question", where))
        self.rows[number] = row = len(self.ids)
        self.ids.append(number)
        self.answers.extend([NO_ANSWERS] * ANSWERS)
        self.kinds.append(0)
        return row

    def annotate(self, row: int, record: Record, where: str) -> None:
        """Gives a question its answers and types. Raises DataError."""
        answers = needed(record, "answers", where)
        if not isinstance(answers, list) or len(answers) != ANSWERS:
            came = f"{len(answers)} of them" if isinstance(answers, list) else kind(answers)
            raise DataError(f"{where}: field 'answers' should be a list of {ANSWERS}, got {came}")
        for place, one in enumerate(answers, row * ANSWERS):
            if not isinstance(one, dict):
                raise DataError(
                    f"{where}: field 'answers' should hold objects with 'answer', got {kind(one)}"
                )
            self.answers[place] = self.numbered(text(needed(one, "answer", where), "answer", where))
        group = tuple([text(needed(record, key, where), key, where) for key in GROUPS])
        if group not in self.groups:
            self.groups[group] = len(self.views)
            self.views.append(dict(zip(GROUPS, group, strict=True)))
        self.kinds[row] = self.groups[group]

    def numbered(self, answer: str) -> int:
        number = self.texts.setdefault(answer, len(self.names))
        if number == len(self.names):
            self.names.append(answer)
        return number

    def finish(self, name: str, revision: str | None, missing: tuple[str, ...]) -> Dataset:
        self.rows, self.texts = {}, {}  # for building alone
        return Dataset(self, digest(self), name, revision, missing)


def from_hub(request: DataRequest) -> Dataset:
    """lmms-lab/VQAv2, or a folder or parquet file of its shape. Raises DataError, HubError."""
    from pgbench.sources.parquet import parquet_rows

    split, mini = split_of(request)
    rows = parquet_rows(request, HUB_ID, ("validation", "val") if split == "val" else (split,), fields=FIELDS)
    first = first_of(len(rows), rows.id) if mini else 0
    data = Questions(lambda row, number: rows.image(first + row, image_name(split, number)), rows.id)
    for index, record in enumerate(rows.stream(first), first):
        where = f"{rows.id} row {index}"
        row = data.ask(record, where)
        if split in ANNOTATED or record["answers"]:  # test splits hold null
            data.annotate(row, record, f"{where} (question_id {data.ids[row]})")
    missing = tuple(str(data.ids[row - first]) for row in sorted(rows.without_image()) if row >= first)
    return data.finish(rows.id, rows.revision, missing)


def first_of(count: int, name: str) -> int:
    """Where minival begins in val. Raises DataError: the end of a shortened file is another split."""
    if count != VAL:
        raise DataError(
            f"{name} holds {count:,} questions; minival is the last {MINIVAL:,} of all {VAL:,} of val: "
            "take the whole file, or --split val"
        )
    return count - MINIVAL


def from_files(request: DataRequest) -> Dataset:
    """The original layout below --data: questions, annotations where there are any, images.

    Annotations join by question_id. Those of questions that are not asked are passed over, so that a
    shortened questions file can be run; the table marks it by its size. Raises DataError.
    """
    split, mini = split_of(request)
    name = f"v2_OpenEnded_mscoco_{QUESTIONS[split]}_questions.json"
    annotations = f"v2_mscoco_{QUESTIONS[split]}_annotations.json" if split in ANNOTATED else None
    files = [name, *([annotations] if annotations else []), f"{IMAGES[split]}/"]
    folder = data_folder(request.path, f"{', '.join(files[:-1])} and {files[-1]}")
    images = folder / IMAGES[split]
    data = Questions(partial(image_in, folder=images, split=split), name)
    records: Iterable[tuple[int, Record]] = enumerate(json_records(folder, name, "questions"))
    if mini:
        kept = deque(records, MINIVAL)
        first_of(kept[-1][0] + 1, name)
        records = kept
    for index, record in records:
        data.ask(record, f"{name} record {index}")
    if annotations:
        for index, record in enumerate(json_records(folder, annotations, "annotations")):
            join(data, record, f"{annotations} record {index}")
        require_answers(data, annotations)
    there = files_in(images)
    lacking = {one for one in set(data.image_ids) if image_name(split, one) not in there}
    missing = tuple(str(n) for n, image in zip(data.ids, data.image_ids, strict=True) if image in lacking)
    return data.finish(name, None, missing)


def from_demo(request: DataRequest) -> Dataset:
    """Drawn scenes as records of both files in one, see pgbench.demo.benchmarks. Raises DataError."""
    from pgbench.demo.benchmarks import drawn, vqav2

    rows = vqav2.drawn(replace(request, split=ALIASES.get(request.split, request.split)))
    data = Questions(lambda row, _image_id: rows[row].image, drawn.ID)
    for row in rows:
        data.annotate(data.ask(row.record, row.where), row.record, row.where)
    return drawn.shown(data.finish(drawn.ID, None, ()), rows)


def image_in(_row: int, image_id: int, *, folder: Path, split: str) -> Image:
    return image_file(folder, image_name(split, image_id))


def join(data: Questions, record: Record, where: str) -> None:
    number = whole(record, "question_id", where)
    if (row := data.rows.get(number)) is None:
        return
    where = f"{where} (question_id {number})"
    if data.answers[row * ANSWERS] != NO_ANSWERS:
        raise DataError(f"{where}: a second annotation of this question; every question needs one")
    image_id = whole(record, "image_id", where)
    if image_id != data.image_ids[row]:
        raise DataError(f"{where}: image_id is {image_id}, but the question has {data.image_ids[row]}")
    data.annotate(row, record, where)


def require_answers(data: Questions, annotations: str) -> None:
    """The official script counts on an annotation for every question; to drop some would shrink the split."""
    bare = [number for row, number in enumerate(data.ids) if data.answers[row * ANSWERS] == NO_ANSWERS]
    if bare:
        raise DataError(
            f"{annotations} lacks {len(bare):,} of the {len(data):,} questions, question_id {bare[0]} first; "
            "download both files again"
        )


def split_of(request: DataRequest) -> tuple[str, bool]:
    """The published split, and whether its end alone is asked for. Raises DataError."""
    split = ALIASES.get(request.split, request.split)
    if split not in SPLITS:
        raise DataError(unknown("split of vqav2", request.split, SPLITS))
    return ("val", True) if split == "minival" else (split, False)


def image_name(split: str, image_id: int) -> str:
    """COCO's own name of the file, the same in both layouts."""
    return f"COCO_{IMAGES[split]}_{image_id:012d}.jpg"


def whole(record: Record, key: str, where: str) -> int:
    number = needed(record, key, where)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < BIGGEST:
        raise DataError(f"{where}: field {key!r} should be a whole number, got {kind(number)}")
    return number


TASK = Task(
    name="vqav2",
    version=1,
    title="VQAv2: questions about photographs",
    sources={"hub": from_hub, "files": from_files, "demo": from_demo},
    splits=SPLITS,
    aliases=ALIASES,
    prompt=prompt,
    gold=gold,
    metrics=METRICS,
    pixels=Pixels(antialias=True, text_len=32),
    max_new_tokens=32,
    cite=BIBTEX,
    licence="CC BY 4.0 (annotations); COCO images under the terms of Flickr",
    submission=Submission(
        splits={"test": "test", "testdev": "test"},  # the server wants all of test in its test-dev phase too
        suffix=".json",
        pieces=json_array(question_answer),
        server="EvalAI challenge 830 (older papers: 514), https://eval.ai/web/challenges/challenge-page/830",
    ),
)
