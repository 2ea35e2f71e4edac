"""ScienceQA: school questions with choices, about half of them with a picture (Lu et al., NeurIPS 2022).

Splits: `test`, `val` and `train` are the questions with a picture, the only ones that PaliGemma was trained
and measured on (google-research/big_vision@0127fb6, big_vision/datasets/science_qa/science_qa.py).
`test_full`, `val_full` and `train_full` are all questions. PaliGemma cannot be asked without a picture: in
these each question without one fails, is listed and counts as wrong; answers made elsewhere count in full.
Layouts: problems.json and the picture folders of https://github.com/lupantech/ScienceQA, and the parquet
copies lmms-lab/ScienceQA (both configs) and derek-thomas/ScienceQA on the hub.
Ids: the official question numbers for the files. The copies dropped them: there an id is a hash of the
question's text, numbered where questions share it, and the same in every copy that keeps the published order.
Prompt: `Question: ...\\nContext: ...\\nOptions: (A) x, (B) y\\nAnswer:` with real line breaks and without
"answer en", as big_vision/configs/proj/paligemma/transfers/science_qa.py has it; text_len 512, no antialias.
Deviation: at most 32 new tokens, where big_vision allows 512. `The answer is A.` takes 5 and the end, its
evaluator reads no further, and no PaliGemma was trained to explain first; one that rambles would cost 512
steps a question.
Not known: which questions show the same picture, since each has a file of its own. Intervals take questions
as independent and are somewhat too narrow where pictures repeat.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from pgbench.errors import DataError, unknown
from pgbench.metrics.draws import scienceqa_draw
from pgbench.metrics.likelihood import choice_metrics, lettered
from pgbench.metrics.scienceqa import (
    CHANCE,
    LETTERS,
    PAPER_ACCURACY,
    PLAIN_ACCURACY,
    SCIENCEQA_ACCURACY,
    official_letter,
)
from pgbench.sources.files import (
    check_name,
    check_unique,
    data_folder,
    digest,
    field,
    image_file,
    is_file,
    kind,
    names,
    read_json,
    text,
)
from pgbench.submissions.read import generic
from pgbench.types import DataRequest, Dataset, Image, LikelihoodMode, Pixels, Profile, Sample, Task

Record: TypeAlias = Mapping[str, object]

HUB_ID = "lmms-lab/ScienceQA"
SPLITS = {"test": 2_017, "val": 2_097, "train": 6_218, "test_full": 4_241, "val_full": 4_241}
SPLITS |= {"train_full": 12_726}
ALIASES = {"validation": "val", "validation_full": "val_full"}
FULL = "_full"
TEXTS = ("question", "hint", "grade", "subject", "topic", "solution")  # what a copy's id is made of
FIELDS = (*TEXTS, "choices", "answer")
NO_CONTEXT = "N/A"
GRADES = {f"grade{year}": "1-6" if year <= 6 else "7-12" for year in range(1, 13)}
LAYOUT = "problems.json and the picture folders test/, val/, train/ (there or in images/)"

BIBTEX = """@inproceedings{lu2022learn,
  title     = {Learn to Explain: Multimodal Reasoning via Thought Chains for Science Question Answering},
  author    = {Lu, Pan and Mishra, Swaroop and Xia, Tony and Qiu, Liang and Chang, Kai-Wei and
               Zhu, Song-Chun and Tafjord, Oyvind and Clark, Peter and Kalyan, Ashwin},
  booktitle = {Advances in Neural Information Processing Systems (NeurIPS)},
  year      = {2022}
}"""


def prompt(sample: Sample, profile: Profile, _variant: str) -> str:
    """big_vision's block with real line breaks, nothing stripped or replaced inside it.

    Official: models/base_prompt.py, format QCM, without its examples: a space between options, each pair of
    spaces made one.
    """
    official = profile.style == "official"
    context = (sample.context.strip() if official else sample.context) or NO_CONTEXT
    choices = zip(LETTERS, sample.options, strict=False)
    options = (" " if official else ", ").join(f"({letter}) {choice}" for letter, choice in choices)
    block = f"Question: {sample.question}\nContext: {context}\nOptions: {options}\nAnswer:"
    return block.replace("  ", " ").strip() if official else block


def gold(sample: Sample) -> str:
    """The sentence PaliGemma was trained to print; the official rule needs the period after the letter."""
    return f"The answer is {sample.target}."


def continuations(sample: Sample, _profile: Profile, _variant: str) -> tuple[str, ...]:  # as `gold` prints
    return tuple(f"The answer is {letter}." for letter in LETTERS[: len(sample.options)])


def answer(said: str, _sample: Sample) -> str:
    """For display: the letter as the official script reads it, or the text where it reads none."""
    return official_letter(said) or said.strip()


def from_files(request: DataRequest) -> Dataset:
    """The original layout below --data: data/scienceqa of the repository, or its root. Raises DataError.

    The records say their split, and evaluate_acc.py and big_vision go by that; pid_splits.json is not read.
    """
    split, full = split_of(request)
    folder = data_folder(request.path, LAYOUT)
    if (folder / "data" / "scienceqa").is_dir():
        folder = folder / "data" / "scienceqa"
    pictures = folder / "images" / split  # or beside problems.json; answers made elsewhere need neither
    pictures = pictures if pictures.is_dir() else folder / split
    samples, missing = [], []
    for number, record in problems(folder, split):
        where = f"problems.json record {number}"
        images = tuple(picture(pictures, number, record, where))
        if full or images:
            samples.append(read_sample(record, number, where, images))
            missing += [number for image in images if not is_file(pictures / image.name)]
    return finish(samples, "problems.json", None, missing)


def problems(folder: Path, split: str) -> Iterator[tuple[str, Record]]:
    """The numbers and records of a split, in the file's order. Raises DataError."""
    document = read_json(folder, "problems.json")
    if not isinstance(document, dict) or not document:
        raise DataError(f"problems.json: expected an object of records by number, got {kind(document)}")
    for number, record in document.items():
        if not isinstance(record, dict):
            raise DataError(f"problems.json: record {number} should be an object, got {kind(record)}")
        where = f"problems.json record {number}"
        if text(field(record, "split", where), "split", where) == split:
            yield check_name(text(number, "number", "problems.json"), where), record


def picture(folder: Path, number: str, record: Record, where: str) -> Iterable[Image]:
    """The picture of a record, or none where it has null or an empty name. Raises DataError."""
    if record.get("image") in (None, ""):
        return
    name = check_name(text(record["image"], "image", where), where)
    yield image_file(folder, f"{number}/{name}")


def from_hub(request: DataRequest) -> Dataset:
    """lmms-lab/ScienceQA, or a repository, folder or file of its columns. Raises DataError, HubError."""
    from pgbench.sources.parquet import parquet_rows

    split, full = split_of(request)
    rows = parquet_rows(request, HUB_ID, file_names(request, split, full), fields=FIELDS)
    records, unread = rows.fields(*FIELDS), rows.without_image()
    pictured = [index not in unread or rows.names_image(index) for index in range(len(records))]
    samples, missing = [], []
    for index, one in enumerate(content_ids(records, pictured, rows.id)):
        if not (full or pictured[index]):
            continue
        images = (rows.image(index, f"{one}.png"),) if pictured[index] else ()
        samples.append(read_sample(records[index], one, f"{rows.id} row {index}", images))
        missing += [one] if images and index in unread else []
    return finish(samples, rows.id, rows.revision, missing)


def from_demo(request: DataRequest) -> Dataset:
    """Drawn scenes as records of problems.json, see pgbench.demo.benchmarks. Raises DataError."""
    from pgbench.demo.benchmarks import drawn, scienceqa

    rows = scienceqa.drawn(request)
    samples = [read_sample(row.record, str(row.record["pid"]), row.where, (row.image,)) for row in rows]
    return drawn.shown(finish(samples, drawn.ID, None, ()), rows)


def file_names(request: DataRequest, split: str, full: bool) -> tuple[str, ...]:
    """How the split's files may be called, best first: the folder of a config, then any folder.

    lmms-lab/ScienceQA has a folder for each config with files of the same names, so that the split's name
    alone would take the questions with a picture twice. The first name is no file's: `parquet_rows` names the
    split after it, and `datasets` allows no folder in the name of a split.
    """
    config = "ScienceQA-FULL" if full else "ScienceQA-IMG"
    own = ("validation", "val") if split == "val" else (split,)
    within = tuple(f"{config}/{name}" for name in own)
    default = request.path is None and request.id in (None, HUB_ID)
    return (f"{config.replace('-', '_')}.{split}", *within, *(() if default else own))


def content_ids(records: Iterable[Record], pictured: Iterable[bool], name: str) -> Iterator[str]:
    """An id for each record: 16 hex digits over its text, -2, -3 ... for the next ones with the same text.

    The answer is not in it: a corrected label keeps its id. Questions with and without a picture are numbered
    apart, so that the picture questions of a full copy have the ids that a copy of them alone gives.
    """
    seen: Counter[str] = Counter()
    for index, (record, image) in enumerate(zip(records, pictured, strict=True)):
        where = f"{name} row {index}"
        texts = [optional(record, key, where) for key in TEXTS]
        content = json.dumps([*texts, choices_of(record, where), image])
        one = hashlib.sha256(content.encode()).hexdigest()[:16]
        seen[one] += 1
        yield one if seen[one] == 1 else f"{one}-{seen[one]}"


def split_of(request: DataRequest) -> tuple[str, bool]:
    """The published split, and whether questions without a picture are in it."""
    split = ALIASES.get(request.split, request.split)
    if split not in SPLITS:
        raise DataError(unknown("split of scienceqa", request.split, SPLITS))
    return split.removesuffix(FULL), split.endswith(FULL)


def read_sample(record: Record, number: str, where: str, images: tuple[Image, ...]) -> Sample:
    """One record of either layout. Raises DataError naming the record and the field."""
    choices = choices_of(record, where)
    right = field(record, "answer", where)
    if isinstance(right, bool) or not isinstance(right, int) or not 0 <= right < len(choices):
        expected = f"the position, from 0, of one of {len(choices)} choices"
        raise DataError(f"{where}: field 'answer' should be {expected}, got {kind(right)}")
    return Sample(
        id=number,
        images=images,
        question=text(field(record, "question", where), "question", where),
        target=LETTERS[right],
        options=choices,
        context=optional(record, "hint", where),
        groups=groups_of(record, where, bool(images)),
    )


def choices_of(record: Record, where: str) -> tuple[str, ...]:
    choices = field(record, "choices", where)
    if not isinstance(choices, list) or not 1 <= len(choices) <= len(LETTERS):
        came = f"{len(choices)}" if isinstance(choices, list) else kind(choices)
        raise DataError(f"{where}: field 'choices' should be a list of 1 to {len(LETTERS)}, got {came}")
    return tuple(text(choice, "choices", where) for choice in choices)


def groups_of(record: Record, where: str, image: bool) -> dict[str, str]:
    """The breakdowns of evaluate_acc.py; has_text and has_image overlap."""
    hint = optional(record, "hint", where)
    found = {key: optional(record, key, where) for key in ("subject", "topic")}
    found["grade"] = GRADES.get(optional(record, "grade", where), "")
    said = {"has_text": bool(hint), "has_image": image, "no_context": not (hint or image)}
    found |= {name: "yes" for name, true in said.items() if true}
    return {name: value for name, value in found.items() if value}


def optional(record: Record, key: str, where: str) -> str:
    """A text that may be missing or null, which is empty then. Raises DataError where it is no text."""
    value = record.get(key)
    return "" if value is None else text(value, key, where)


def finish(samples: list[Sample], name: str, revision: str | None, missing: Iterable[str]) -> Dataset:
    if not samples:
        raise DataError(f"{name}: no question of this split; the splits are {names(list(SPLITS))}")
    check_unique((sample.id for sample in samples), name)
    placed = tuple(replace(sample, fields={"position": at}) for at, sample in enumerate(samples))
    return Dataset(placed, digest(placed), name, revision, tuple(missing))


def results(document: object, _samples: Sequence[Sample]) -> Mapping[str, str]:
    """The authors' result file, {"results": {pid: index}, "outputs": {pid: text}}, or any other form.

    The outputs are the answers: an index in results may be the script's own guess. Raises DataError.
    """
    if not isinstance(document, dict) or not isinstance(document.get("results"), dict):
        return generic(document)
    outputs = document.get("outputs")
    if not isinstance(outputs, dict):
        raise DataError("'results' come without 'outputs'; their indices may be guesses: give the texts")
    silent = sorted(document["results"].keys() - outputs.keys())
    if silent:
        raise DataError(f"{len(silent):,} of the 'results' have no text in 'outputs', first {silent[0]}")
    return generic([{"id": one, "answer": said} for one, said in outputs.items()])


TASK = Task(
    name="scienceqa",
    version=1,
    title="ScienceQA: school questions with choices",
    sources={"hub": from_hub, "files": from_files, "demo": from_demo},
    splits=SPLITS,
    aliases=ALIASES,
    prompt=prompt,
    gold=gold,
    metrics=(SCIENCEQA_ACCURACY, PLAIN_ACCURACY, PAPER_ACCURACY),
    pixels=Pixels(antialias=False, text_len=512),
    max_new_tokens=32,
    cite=BIBTEX,
    licence="CC BY-NC-SA 4.0",
    answer=answer,
    results=results,
    draw=scienceqa_draw,
    modes=("generate", "likelihood"),
    likelihood=LikelihoodMode(continuations, lettered, choice_metrics(CHANCE)),
)
