"""CMMMU: Chinese college exam questions with pictures in thirty subjects (Zhang et al., 2024).

Layouts: the authors' folders cmmmu-data-{split}/<category>/<category>.jsonl with the images beside them
(github.com/CMMMU-Benchmark/CMMMU), and the parquet copy lmms-lab/CMMMU.
Images: the first one that question and options point at.
Prompt: no PaliGemma checkpoint was published with one for CMMMU. Ours is `answer en {question}`, the prefix
of big_vision's GQA transfer for Chinese questions too (xGQA), and options as `(A) text`, a line each: letters
are the surest to be parsed. `official` is the wording of lmms-eval (lmms_eval/tasks/cmmmu/utils.py of
EvolvingLMMs-Lab/lmms-eval@2747f96); the authors' repository has a scorer and no prompt. Image tags
`<img="name">` become `<图片 1>` in both, as they do there.
Neither 32 new tokens nor the pixels come from a paper: big_vision has no config for CMMMU.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from pgbench.errors import DataError, unknown
from pgbench.metrics.cmmmu import (
    ACCURACY,
    BLANK,
    CHOICE,
    LETTERS,
    PLAIN_ACCURACY,
    TRUE_FALSE,
    TYPES,
    parse_choices,
    parse_judgement,
)
from pgbench.metrics.draws import cmmmu_draw
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
from pgbench.sources.json_lines import json_lines
from pgbench.submissions import write
from pgbench.submissions.read import whole_ids
from pgbench.types import DataRequest, Dataset, Image, Pixels, Profile, Sample, Submission, Task

Record: TypeAlias = Mapping[str, object]

HUB_ID = "lmms-lab/CMMMU"
SPLITS = {"val": 900, "dev": 112, "test": 11_000}
ALIASES = {"validation": "val"}
OPTIONS = ("option1", "option2", "option3", "option4")
IMAGES = tuple(f"image_{i}" for i in range(1, 6))
FILES = tuple(f"{column}_filename" for column in IMAGES)
FIELDS = ("id", "type", "question", *OPTIONS, "answer", "category", "subcategory", *FILES)
FIRST, ALL = "first", "all"  # the first picture, or every one in the order of the tags
TAG = re.compile(r'<img="([^"]*)">')
# as eval/eval_script.py of CMMMU-Benchmark/CMMMU@59a4776 prints them
DISCIPLINES = {
    "艺术与设计": "Art & Design",
    "商业": "Business",
    "科学": "Science",
    "健康与医学": "Health & Medicine",
    "人文社会科学": "Humanities & Social Sciences",
    "技术与工程": "Technology & Engineering",
}
INSTRUCTIONS: Mapping[str, str] = {
    CHOICE: "请回答以下多项选择题，并选出正确选项。这些题目可能包括单选和多选题型。"
    "如果所提供的信息不足以确定一个明确的答案，那么请根据可用的数据和你的判断来选择最可能正确的选项。",
    TRUE_FALSE: "请回答以下判断题，并根据题目描述和所给的信息来判断问题中陈述的对错。"
    "如果信息不完整或不足以作出绝对判断，请运用你的逻辑推理和现有信息来做出最可能的判断。",
    BLANK: "请回答以下填空题，并根据题目的要求和所提供的信息来给出最恰当的答案。"
    "如果信息不足以确切回答，那么请依据现有的数据和你的推理能力来填写最合理的答案。",
}

BIBTEX = """@article{zhang2024cmmmu,
  title   = {{CMMMU}: A Chinese Massive Multi-discipline Multimodal Understanding Benchmark},
  author  = {Zhang, Ge and Du, Xinrun and Chen, Bei and Liang, Yiming and Luo, Tongxu and Zheng, Tianyu and
             Zhu, Kang and Cheng, Yuyang and Xu, Chunpu and Guo, Shuyue and others},
  journal = {arXiv preprint arXiv:2401.11944},
  year    = {2024}
}"""


def prompt(sample: Sample, profile: Profile, _variant: str) -> str:
    numbers = {name: i for i, name in enumerate(files_of(sample), 1)}

    def shown(written: str) -> str:
        return TAG.sub(lambda tag: f"<图片 {numbers[tag[1]]}>" if tag[1] in numbers else tag[0], written)

    question = shown(sample.question)
    # white space at the end of an option is published, counts for the scorer, and is shown as it is
    lines = [f"({letter}) {shown(option)}" for letter, option in zip(LETTERS, sample.options, strict=False)]
    if profile.style != "official":
        return "\n".join([f"answer en {question.strip()}", *lines])
    options = "选项：\n" + "".join(f"{line}\n" for line in lines) + "\n" if lines else ""
    return f"{INSTRUCTIONS[str(sample.fields['type'])]}\n\n问题：{question}\n{options}正确答案：\n"


def gold(sample: Sample) -> str:
    return sample.target if isinstance(sample.target, str) else ""


def answer(said: str, sample: Sample) -> str:
    if sample.fields["type"] == BLANK:
        return said.strip()
    chosen = parse_choices(said, sample.options) if sample.options else parse_judgement(said)
    return chosen or "?"


def from_hub(request: DataRequest) -> Dataset:
    """lmms-lab/CMMMU, or a folder or parquet file of its shape. Raises DataError, HubError."""
    return read_hub(request, request.variant or FIRST)


def from_files(request: DataRequest) -> Dataset:
    """The authors' folders below --data. Raises DataError."""
    return read_files(request, request.variant or FIRST)


def read_hub(request: DataRequest, images: str) -> Dataset:
    """The rows of a split with their first image or all of them. Raises DataError, HubError."""
    from pgbench.sources.parquet import parquet_rows

    split = split_of(request)
    names = ("val", "validation") if split == "val" else (split,)
    rows = parquet_rows(request, HUB_ID, names, fields=FIELDS, images=IMAGES)
    without = {column: rows.without_image(column) for column in IMAGES}
    samples, missing = [], []
    for index, record in enumerate(rows.fields(*FIELDS)):
        columns = {
            str(record[file] or column): column
            for column, file in zip(IMAGES, FILES, strict=True)
            if record[file] or index not in without[column]
        }
        sample = read_sample(record, f"{rows.id} row {index}", split, tuple(columns))
        wanted = images_of(sample, images)
        there = [name for name in wanted if name in columns and index not in without[columns[name]]]
        found = tuple(
            rows.image(index, name, columns[name]) if name in there else absent(name) for name in wanted
        )
        samples.append(replace(sample, images=found or (absent(sample.id),)))
        if not wanted or len(there) < len(wanted):
            missing.append(sample.id)
    return finish(samples, missing, rows.id, rows.revision)


def read_files(request: DataRequest, images: str) -> Dataset:
    """The same from the authors' folders, categories in the order of their names. Raises DataError."""
    split = split_of(request)
    name = f"cmmmu-data-{split}"
    layout = f"{name}/<category>/<category>.jsonl and the images beside it"
    root = data_folder(request.path, layout)
    if not (root / name).is_dir():
        raise DataError(f"{name}/ is not in {root}; there: {listing(root)}; expected {layout}")
    found = sorted((root / name).glob("*/*.jsonl"))
    files = [file for file in found if file.stem == file.parent.name]
    if not files:
        raise DataError(f"{name}/ holds no <category>/<category>.jsonl; there: {listing(root / name)}")
    samples, missing = [], []
    for file in files:
        there = files_in(file.parent)
        for where, record in json_lines(file):
            sample = read_sample(record, where, split, image_list(record, where))
            wanted = [check_name(one, where) for one in images_of(sample, images)]
            pictures = tuple(image_file(file.parent, one) for one in wanted)
            samples.append(replace(sample, images=pictures or (absent(sample.id),)))
            if not wanted or not there.issuperset(wanted):
                missing.append(sample.id)
    return finish(samples, missing, name, None)


def from_demo(request: DataRequest) -> Dataset:
    """Drawn scenes as the authors' records, see pgbench.demo.benchmarks. Raises DataError."""
    from pgbench.demo.benchmarks import cmmmu, drawn

    split = split_of(request)
    rows = cmmmu.drawn(replace(request, split=split))
    samples = [
        replace(
            cmmmu.asked(read_sample(row.record, row.where, split, (row.image.name,))), images=(row.image,)
        )
        for row in rows
    ]
    return drawn.shown(finish(samples, (), drawn.ID, None), rows)


def image_list(record: Record, where: str) -> tuple[str, ...]:
    listed = record.get("img_list") or []
    if not isinstance(listed, list):
        raise DataError(f"{where}: field 'img_list' should be a list of names, got {kind(listed)}")
    return tuple(text(one, "img_list", where) for one in listed)


def files_of(sample: Sample) -> tuple[str, ...]:
    """The names of a sample's images in the published order, by which tags are numbered."""
    listed = sample.fields["files"]
    return listed if isinstance(listed, tuple) else ()


def images_of(sample: Sample, images: str) -> list[str]:
    """The images that a question is asked with: those tagged, each once; without tags, those listed."""
    tagged = TAG.findall(" ".join((sample.question, *sample.options)))
    wanted = list(dict.fromkeys(tagged)) or list(files_of(sample))
    return wanted[:1] if images == FIRST else wanted


def absent(name: str) -> Image:
    """The place of an image that is not there."""

    def fail() -> bytes:
        raise OSError(f"{name} has no image")

    return Image(name, fail)


def split_of(request: DataRequest) -> str:
    split = ALIASES.get(request.split, request.split)
    if split not in SPLITS:
        raise DataError(unknown("split of cmmmu", request.split, SPLITS))
    return split


def read_sample(record: Record, where: str, split: str, files: Sequence[str]) -> Sample:
    """One record of either layout, without its images. Raises DataError naming the record and the field."""
    number = field(record, "id", where)  # a number in the files, a text on the hub: the scorer joins on int
    if isinstance(number, bool) or not re.fullmatch(r"[0-9]{1,18}", str(number)):
        raise DataError(f"{where}: field 'id' should be a whole number, got {kind(number)}")
    where = f"{where} (id {number})"
    type_ = field(record, "type", where)
    if type_ not in TYPES:
        raise DataError(f"{where}: field 'type' should be {', '.join(TYPES)}, got {kind(type_)}")
    written = OPTIONS if type_ == CHOICE else ()
    category = text(field(record, "category", where), "category", where)
    return Sample(
        id=str(int(str(number))),
        images=(),
        question=text(field(record, "question", where), "question", where),
        target=reference(record.get("answer"), where, split),
        options=tuple(text(field(record, key, where), key, where) for key in written),
        fields={"type": type_, "files": tuple(files)},
        groups={
            "subject": text(field(record, "subcategory", where), "subcategory", where),
            "discipline": DISCIPLINES.get(category, category),
            "type": str(type_),
        },
    )


def reference(value: object, where: str, split: str) -> str | None:
    """The answer as published; None where there is none, as in all of test."""
    if value is None:
        return None
    given = text(value, "answer", where)
    return None if not given.strip() or (split == "test" and given.strip() == "?") else given


def finish(samples: Sequence[Sample], missing: Sequence[str], name: str, revision: str | None) -> Dataset:
    check_unique((sample.id for sample in samples), name)
    # the type decides prompt and score, and a digest sees no fields
    typed = (replace(sample, context=sample.groups["type"]) for sample in samples)
    placed = [replace(one, fields={**one.fields, "position": at}) for at, one in enumerate(samples)]
    return Dataset(tuple(placed), digest(typed), name, revision, tuple(missing))


TASK = Task(
    name="cmmmu",
    version=1,
    title="CMMMU: Chinese college exam questions with pictures in thirty subjects",
    sources={"hub": from_hub, "files": from_files, "demo": from_demo},
    splits=SPLITS,
    aliases=ALIASES,
    prompt=prompt,
    gold=gold,
    answer=answer,
    metrics=(ACCURACY, PLAIN_ACCURACY),
    pixels=Pixels(antialias=True, text_len=1024),
    max_new_tokens=32,
    cite=BIBTEX,
    licence="see github.com/CMMMU-Benchmark/CMMMU",
    variants=(FIRST, ALL),
    submission=Submission(
        splits={"test": "test"},
        suffix=".jsonl",
        pieces=write.json_lines(
            lambda one, said: {"id": int(one.id), "type": one.fields["type"], "response": said}
        ),
        server="the authors' evaluation server; the answers are not public, github.com/CMMMU-Benchmark/CMMMU",
    ),
    results=whole_ids,
    draw=cmmmu_draw,
)
