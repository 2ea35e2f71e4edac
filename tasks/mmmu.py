"""MMMU: college exam questions with pictures in thirty subjects (Yue et al., CVPR 2024).

Published on the hub alone, so there is no `files` source: lmms-lab/MMMU, or with --data a folder of its
parquet files. The thirty folders of MMMU/MMMU are read as well, there or by --data-id.
Images: `image_1` alone, which is what the authors' LLaVA runner shows; `<image 2>` and the like then point at
nothing, as they do there. Their runner shows no picture where the options hold several `<img=...>` tags;
PaliGemma cannot be asked without one, so here every question comes with its picture.
Prompt: no PaliGemma checkpoint was published with one. Ours is `answer en {question}` and, a line each,
the options as the authors write them, `(A) text`: their parser finds no short answer that is not a letter.
`official` is mmmu/configs/llava1.5.yaml of MMMU-Benchmark/MMMU@bb0b95a, as its text reads; a YAML reader
makes one line break of a blank line in quoted text, and harnesses that copied it have one or two. Markers
`<image 1>` stay as they are, as the authors' `construct_prompt` leaves them; they are not PaliGemma's token
`<image>`.
Neither 32 new tokens nor the pixels come from a paper: big_vision has no config for MMMU.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from pgbench.errors import DataError, unknown
from pgbench.metrics.draws import mmmu_draw
from pgbench.metrics.likelihood import choice_metrics, lettered
from pgbench.metrics.mmmu import ACCURACY, BLIND, PLAIN_ACCURACY, letters, open_accuracy, parse_choice
from pgbench.sources.files import check_unique, digest, field, kind, text
from pgbench.submissions.read import response_first
from pgbench.submissions.write import json_object
from pgbench.types import DataRequest, Dataset, LikelihoodMode, Pixels, Profile, Sample, Submission, Task

Record: TypeAlias = Mapping[str, object]

HUB_ID = "lmms-lab/MMMU"
SPLITS = {"val": 900, "dev": 150, "test": 10_500}
ALIASES = {"validation": "val"}
FIELDS = ("id", "question", "options", "answer", "question_type")
IMAGES = tuple(f"image_{i}" for i in range(1, 8))
FIRST, ALL = "first", "all"  # image_1, or every picture in the order of the markers
MULTIPLE_CHOICE = "multiple-choice"  # everything else is open: "open" on the hub, "short-answer" elsewhere
LONGEST = 20_000  # characters of a list literal; the longest published ones have some thousand
MOST = 26  # options; letters end there, published ones end at I

# mmmu/utils/data_utils.py of MMMU-Benchmark/MMMU@bb0b95a
DISCIPLINES = {
    "Art and Design": "Art Art_Theory Design Music",
    "Business": "Accounting Economics Finance Manage Marketing",
    "Science": "Biology Chemistry Geography Math Physics",
    "Health and Medicine": "Basic_Medical_Science Clinical_Medicine Diagnostics_and_Laboratory_Medicine "
    "Pharmacy Public_Health",
    "Humanities and Social Science": "History Literature Sociology Psychology",
    "Tech and Engineering": "Agriculture Architecture_and_Engineering Computer_Science Electronics "
    "Energy_and_Power Materials Mechanical_Engineering",
}
DISCIPLINE_OF = {subject: name for name, subjects in DISCIPLINES.items() for subject in subjects.split()}

BIBTEX = """@inproceedings{yue2024mmmu,
  title     = {{MMMU}: A Massive Multi-discipline Multimodal Understanding and Reasoning Benchmark for
               Expert {AGI}},
  author    = {Yue, Xiang and Ni, Yuansheng and Zhang, Kai and Zheng, Tianyu and Liu, Ruoqi and Zhang, Ge and
               Stevens, Samuel and Jiang, Dongfu and Ren, Weiming and Sun, Yuxuan and others},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  pages     = {9556--9567},
  year      = {2024}
}"""


def prompt(sample: Sample, profile: Profile, _variant: str) -> str:
    lines = [
        f"({letter}) {option}" for letter, option in zip(letters(sample.options), sample.options, strict=True)
    ]
    if profile.style != "official":
        return "\n".join([f"answer en {sample.question.strip()}", *lines])
    if not lines:
        return f"{sample.question}\n\nAnswer the question using a single word or phrase."
    options = "".join(f"{line}\n" for line in lines)  # the authors' block ends its last line as well
    ask = "Answer with the option's letter from the given choices directly."
    return f"{sample.question}\n\n{options}\n\n{ask}"


def gold(sample: Sample) -> str:
    """The first reference that the official parser finds again, else the first: "x is y" is read as "y"."""
    if sample.target is None:
        return ""
    golds = (sample.target,) if isinstance(sample.target, str) else sample.target
    if sample.options:
        return golds[0]
    return next((one for one in golds if open_accuracy(prediction=one, golds=golds)), golds[0])


def answer(said: str, sample: Sample) -> str:
    return (parse_choice(said, sample.options) or "?") if sample.options else said.strip()


def submitted(sample: Sample, said: str) -> str:
    """A letter for multiple choice, the text as decoded for an open question: what main_eval_only.py takes.

    An answer that names no choice is "", which equals no letter; the authors' parser would draw one.
    """
    return (parse_choice(said, sample.options) or "") if sample.options else said


def from_hub(request: DataRequest) -> Dataset:
    """lmms-lab/MMMU, or a folder or parquet file of its shape. Raises DataError, HubError."""
    return read(request, request.variant or FIRST)


def read(request: DataRequest, images: str) -> Dataset:
    """The rows of a split with their first image or all of them. Raises DataError, HubError."""
    from pgbench.sources.parquet import parquet_rows

    split = ALIASES.get(request.split, request.split)
    if split not in SPLITS:
        raise DataError(unknown("split of mmmu", request.split, SPLITS))
    split_names = ("validation", "val") if split == "val" else (split,)
    rows = parquet_rows(request, HUB_ID, split_names, fields=FIELDS, images=IMAGES)
    without = {column: rows.without_image(column) for column in IMAGES}
    samples, missing = [], []
    for index, record in enumerate(rows.fields(*FIELDS)):
        sample = read_sample(record, f"{rows.id} row {index}", split)
        columns = columns_of(sample, images, [one for one in IMAGES if index not in without[one]])
        pictures = tuple(rows.image(index, f"{sample.id} {column}", column) for column in columns)
        samples.append(replace(sample, images=pictures, fields={"position": index}))
        if any(index in without[column] for column in columns):
            missing.append(sample.id)
    check_unique((sample.id for sample in samples), rows.id)
    return Dataset(tuple(samples), digest(samples), rows.id, rows.revision, tuple(missing))


def from_demo(request: DataRequest) -> Dataset:
    """Drawn scenes as rows of the hub's copy, see pgbench.demo.benchmarks. Raises DataError."""
    from pgbench.demo.benchmarks import drawn, mmmu

    split = ALIASES.get(request.split, request.split)
    rows = mmmu.drawn(replace(request, split=split))
    samples = [
        replace(read_sample(row.record, row.where, split), images=(row.image,), fields={"position": index})
        for index, row in enumerate(rows)
    ]
    check_unique((sample.id for sample in samples), drawn.ID)
    return drawn.shown(Dataset(samples, digest(samples), drawn.ID), rows)


def columns_of(sample: Sample, images: str, there: Sequence[str]) -> list[str]:
    """The image columns that a question is asked with; never none, so that a lack of images shows.

    All: those that its question and options point at, each once, in that order; all there are where
    nothing is pointed at.
    """
    if images == FIRST:
        return [IMAGES[0]]
    marked = re.findall(r"<image ([1-7])>", " ".join((sample.question, *sample.options)))
    return [f"image_{number}" for number in dict.fromkeys(marked)] or list(there) or [IMAGES[0]]


def read_sample(record: Record, where: str, split: str) -> Sample:
    """One row, without its images. Raises DataError naming the row and the field."""
    name = text(field(record, "id", where), "id", where)
    where = f"{where} ({name})"
    subject = "_".join(name.split("_")[1:-1])  # main_parse_and_eval's rule: validation_Art_Theory_7
    if not subject:
        raise DataError(f"{where}: field 'id' should be like validation_Accounting_1, got {name!r}")
    choice = field(record, "question_type", where) == MULTIPLE_CHOICE
    discipline = DISCIPLINE_OF.get(subject)
    return Sample(
        id=name,
        images=(),
        question=text(field(record, "question", where), "question", where),
        target=references(record.get("answer"), where, split),
        options=read_options(field(record, "options", where), where) if choice else (),
        groups={
            "subject": subject,
            **({"discipline": discipline} if discipline else {}),
            "type": MULTIPLE_CHOICE if choice else "open",
        },
    )


def read_options(value: object, where: str) -> tuple[str, ...]:
    """The options in a text that is a Python list of texts. Raises DataError. Nothing is evaluated."""
    given = text(value, "options", where)
    found = text_list(given)
    if found is None or not 0 < len(found) <= MOST:
        raise DataError(
            f"{where}: field 'options' should be a Python list of 1 to {MOST} texts, got {kind(given)}"
        )
    return tuple(text(option, "options", where) for option in found)


def text_list(literal: str) -> list[str] | None:
    """The texts of a list literal; None for anything else, or for one longer than any published."""
    if len(literal) > LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of "\p" in a literal, which LaTeX is full of
            found = ast.literal_eval(literal.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        return None
    return found


def references(value: object, where: str, split: str) -> str | tuple[str, ...] | None:
    """The answer as published; several where it is a list of texts in a text, and None where there is none.

    Trap: an open answer such as "[0, 1]" is a text, for its list is none of texts. Test rows have "?" for
    an answer until the hub's copy holds the released ones.
    """
    if value is None:
        return None
    given = text(value, "answer", where)
    if not given.strip() or (split == "test" and given.strip() == "?"):
        return None
    several = text_list(given) if given.startswith("[") else None
    return tuple(text(one, "answer", where) for one in several) if several else given


TASK = Task(
    name="mmmu",
    version=1,
    title="MMMU: college exam questions with pictures in thirty subjects",
    sources={"hub": from_hub, "demo": from_demo},
    splits=SPLITS,
    aliases=ALIASES,
    prompt=prompt,
    gold=gold,
    answer=answer,
    metrics=(ACCURACY, PLAIN_ACCURACY),
    pixels=Pixels(antialias=True, text_len=1024),
    max_new_tokens=32,
    cite=BIBTEX,
    licence="Apache-2.0",
    variants=(FIRST, ALL),
    submission=Submission(
        splits={"test": "test"},
        suffix=".json",
        pieces=json_object(submitted),
        server="EvalAI challenge 2179; since 2026-02-12 the test answers are public and the authors' README "
        "says to run main_eval_only.py on one's own machine, github.com/MMMU-Benchmark/MMMU",
    ),
    results=response_first,  # of a subject's output.json, where `answer` is the reference
    draw=mmmu_draw,
    modes=("generate", "likelihood"),
    likelihood=LikelihoodMode(
        continuations=lambda sample, _profile, _variant: letters(sample.options),  # open questions: none
        right=lettered,
        metrics=choice_metrics(BLIND),
    ),
)
