"""MMVP: 150 pairs of pictures that CLIP cannot tell apart (Tong et al., CVPR 2024).

Two rows with the numbers 2k-1 and 2k are a pair, and ask the same of two pictures. The pair is the unit of
the main metric and the cluster of all. Rows are told by their number (the column Index), never by their
place: folders and image-folder data sets list 1, 10, 100, 101, ...
Layouts: MMVP/MMVP's own files, Questions.csv and `MMVP Images/{number}.jpg`, and the parquet copy
lmms-lab-eval/MMVP on the hub.
Split: `test`, all 300 rows. The authors give it no name; the hub calls it `train`, as it does with all that
has no split, and files of that name are read; nobody trains on it.
Labels: those of rows 99/100 and 279/280 are the wrong way round in the published file (tsb0601/MMVP issues 14
and 30); lmms-lab-eval/MMVP has them put right. Either labelling is served from either source, by setting the
labels of these four rows.
Variants: `plain` asks the bare question, as the paper does (Beyer et al. 2024, arXiv:2407.07726, appendix
B.36); `options` adds the two options; both take the published labels, `plain_corrected` and
`options_corrected` the corrected ones. Prompt style `official` is that of MMVP's authors, with the options in
all variants. The paper evaluates the VQAv2 transfer and google-research/big_vision has no configuration for
MMVP, so pixels and lengths are those of big_vision/configs/proj/paligemma/transfers/vqav2.py@0127fb6.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pgbench.errors import DataError, unknown
from pgbench.metrics.likelihood import lettered, pair_metrics
from pgbench.metrics.mmvp import LETTERS, METRICS, normalise
from pgbench.sources.files import (
    check_unique,
    data_folder,
    digest,
    field,
    files_in,
    image_file,
    kind,
    listing,
    names,
    text,
)
from pgbench.submissions.read import response_first
from pgbench.types import DataRequest, Dataset, Image, LikelihoodMode, Pixels, Profile, Sample, Task

Record: TypeAlias = Mapping[str, object]

HUB_ID = "lmms-lab-eval/MMVP"
SPLITS = {"test": 300}
VARIANTS = ("plain", "options", "plain_corrected", "options_corrected")
FIELDS = ("Index", "Question", "Options", "Correct Answer")
TABLE, IMAGES = "Questions.csv", "MMVP Images"
NUMBER = "[0-9]{1,9}"  # of a row; Python reads no integer of more than 4,300 digits
# The published labels of the rows in dispute, by lmms-eval's tasks/mmvp/README.md; corrected is the reverse.
DISPUTED = {99: "a", 100: "b", 279: "a", 280: "b"}
REVERSE = {"a": "b", "b": "a"}

BIBTEX = """@inproceedings{tong2024eyes,
  title     = {Eyes Wide Shut? {Exploring} the Visual Shortcomings of Multimodal {LLMs}},
  author    = {Tong, Shengbang and Liu, Zhuang and Zhai, Yuexiang and Ma, Yi and LeCun, Yann and
               Xie, Saining},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  pages     = {9568--9578},
  year      = {2024}
}"""


def prompt(sample: Sample, profile: Profile, variant: str) -> str:
    """The question, with its options as published (`(a) Open (b) Closed`) where they are asked for.

    Official: scripts/evaluate_mllm.py of tsb0601/MMVP@7635005, which puts a space between and strips nothing.
    """
    written = str(sample.fields["options"])
    if profile.style == "official":
        return f"{sample.question} {written}"
    asked = f"answer en {sample.question.strip()}"
    return f"{asked} {written.strip()}" if variant.startswith("options") else asked


def gold(sample: Sample) -> str:
    """The right option's text, which is what the paper's models are to print; its letter if it has none."""
    if not isinstance(sample.target, str):
        return ""
    option = sample.options[LETTERS.index(sample.target)]
    return option if normalise(option) else f"({sample.target})"


def continuations(sample: Sample, _profile: Profile, _variant: str) -> tuple[str, ...]:
    """The options' texts, as `gold` prints them."""
    pairs = zip(LETTERS, sample.options, strict=False)
    return tuple(option if normalise(option) else f"({letter})" for letter, option in pairs)


def from_hub(request: DataRequest) -> Dataset:
    """lmms-lab-eval/MMVP, or a folder or parquet file of its shape. Raises DataError, HubError."""
    from pgbench.sources.parquet import parquet_rows

    corrected = wants_corrected(request)
    rows = parquet_rows(request, HUB_ID, ("train", "test"), fields=FIELDS)
    samples, empty = [], rows.without_image()
    missing = []
    for row, record in enumerate(rows.fields(*FIELDS)):
        where = f"{rows.id} row {row}"
        number = read_number(record, where)
        samples.append(read_sample(record, number, rows.image(row, f"{number}.jpg"), corrected, where))
        if row in empty:
            missing.append(samples[-1].id)
    return finish(samples, rows.id, rows.revision, missing)


def from_files(request: DataRequest) -> Dataset:
    """Questions.csv and `MMVP Images/` below --data. Raises DataError."""
    corrected = wants_corrected(request)
    folder = data_folder(request.path, f"{TABLE} and {IMAGES}/")
    samples = []
    for line, record in enumerate(read_table(folder), 1):
        where = f"{TABLE} row {line}"
        number = read_number(record, where)
        image = image_file(folder / IMAGES, f"{number}.jpg")
        samples.append(read_sample(record, number, image, corrected, where))
    there = files_in(folder / IMAGES)
    return finish(samples, TABLE, None, [one.id for one in samples if one.images[0].name not in there])


def from_demo(request: DataRequest) -> Dataset:
    """Pairs of drawn scenes as rows of the table, see pgbench.demo.benchmarks. Raises DataError."""
    from pgbench.demo.benchmarks import drawn, mmvp

    corrected = wants_corrected(request)
    rows = mmvp.drawn(request)
    samples = [
        read_sample(row.record, read_number(row.record, row.where), row.image, corrected, row.where)
        for row in rows
    ]
    return drawn.shown(finish(samples, drawn.ID, None, ()), rows)


def wants_corrected(request: DataRequest) -> bool:
    """Whether the variant takes the corrected labels. Raises DataError for an unknown split or variant."""
    if request.split not in SPLITS:
        raise DataError(unknown("split of mmvp", request.split, SPLITS))
    if request.variant and request.variant not in VARIANTS:
        raise DataError(unknown("variant of mmvp", request.variant, VARIANTS))
    return request.variant.endswith("_corrected")


def read_table(folder: Path) -> Sequence[Record]:
    """The rows of Questions.csv. Raises DataError: not there, unreadable, no CSV, a column missing."""
    try:
        content = (folder / TABLE).read_text(encoding="utf-8-sig")
    except FileNotFoundError as exc:
        raise DataError(f"{TABLE} is not in {folder}; there: {listing(folder)}") from exc
    except OSError as exc:
        raise DataError(f"{TABLE} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise DataError(f"{TABLE} is not UTF-8; download it again") from exc
    try:
        reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
        found = list(reader)
    except csv.Error as exc:
        raise DataError(f"{TABLE} is not CSV: {exc}; download it again") from exc
    lacking = [column for column in FIELDS if column not in (reader.fieldnames or ())]
    if lacking:
        raise DataError(f"{TABLE} has no column {names(lacking)}; there: {names(reader.fieldnames or ())}")
    for line, record in enumerate(found, 1):
        if None in record:  # where csv puts the fields beyond the header's
            raise DataError(f"{TABLE} row {line} has more fields than columns; put quotes around commas")
    return found


def read_number(record: Record, where: str) -> int:
    """The row's number, from 1; text in the CSV, a whole number on the hub. Raises DataError."""
    value = field(record, "Index", where)
    digits = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(NUMBER, digits) or int(digits) < 1:
        raise DataError(f"{where}: field 'Index' should be a whole number from 1, got {kind(value)}")
    return int(digits)


def read_sample(record: Record, number: int, image: Image, corrected: bool, where: str) -> Sample:
    """One row of either layout. Raises DataError naming the row and the field."""
    where = f"{where} (Index {number})"
    written = text(field(record, "Options", where), "Options", where)
    options = read_options(written, where)
    letter = read_letter(text(field(record, "Correct Answer", where), "Correct Answer", where), where)
    if letter not in LETTERS[: len(options)]:
        raise DataError(f"{where}: the answer ({letter}) is none of the {len(options)} options")
    if number in DISPUTED:
        letter = REVERSE[DISPUTED[number]] if corrected else DISPUTED[number]
    return Sample(
        id=str(number),
        images=(image,),
        question=text(field(record, "Question", where), "Question", where),
        target=letter,
        options=options,
        fields={"options": written},
        cluster=f"pair-{(number + 1) // 2}",
    )


def read_options(written: str, where: str) -> tuple[str, ...]:
    """The texts of `(a) Open (b) Closed`, two or more in this order. Raises DataError.

    Only the next letter in order begins an option: an option may hold other letters in brackets.
    """
    starts: list[tuple[int, int]] = []
    for match in re.finditer(r"\(([a-z])\)", written, re.IGNORECASE):
        if match[1].lower() == LETTERS[len(starts) : len(starts) + 1]:  # none follows z
            starts.append(match.span())
    if len(starts) < 2 or written[: starts[0][0]].strip():
        raise DataError(f"{where}: the options should be written '(a) ... (b) ...', got {written[:60]!r}")
    ends = [start for start, _ in starts[1:]] + [len(written)]
    return tuple(written[begin:end].strip() for (_, begin), end in zip(starts, ends, strict=True))


def read_letter(written: str, where: str) -> str:
    """The letter of `(a)`. Raises DataError."""
    match = re.fullmatch(r"\(?([a-z])\)?", written.strip(), re.IGNORECASE)
    if match is None:
        raise DataError(f"{where}: the answer should be written '(a)', got {written[:60]!r}")
    return match[1].lower()


def finish(samples: list[Sample], name: str, revision: str | None, missing: Sequence[str]) -> Dataset:
    """The samples in the order of their numbers, whatever order they came in."""
    check_unique((sample.id for sample in samples), name)
    ordered = tuple(sorted(samples, key=lambda sample: int(sample.id)))
    return Dataset(ordered, digest(ordered), name, revision, tuple(sorted(missing, key=int)))


TASK = Task(
    name="mmvp",
    version=1,
    title="MMVP: pairs of pictures that CLIP cannot tell apart",
    sources={"hub": from_hub, "files": from_files, "demo": from_demo},
    splits=SPLITS,
    prompt=prompt,
    gold=gold,
    metrics=METRICS,
    pixels=Pixels(antialias=True, text_len=32),
    max_new_tokens=32,
    cite=BIBTEX,
    licence="MIT",
    variants=VARIANTS,
    results=response_first,  # of the authors' answers file, where `answer` is the reference
    modes=("generate", "likelihood"),
    likelihood=LikelihoodMode(continuations, lettered, pair_metrics()),
)
