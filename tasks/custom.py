"""Questions of your own: one file of records, JSON Lines or a JSON array, and images beside it.

A record has an `id` (text or a whole number), an `image` or a list of them (paths below the file's folder),
and one of `question` (asked as PaliGemma was trained, `answer en {question}`) and `prompt` (asked as it
stands). What is right: `answers` or `answer` (a text or a list of them), or `options` with `answer` (a
letter, a place counted from 0, or an option's text); with neither it is run and not scored. `groups` (name ->
value) are breakdowns, `cluster` is what makes samples depend on each other: the image, where it is not given.
Other fields are passed over. A file has answers or options, not both: no one number can sum up the two.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from pgbench.errors import DataError, unknown
from pgbench.keys import json_key
from pgbench.metrics.named import EXACT_MATCH
from pgbench.metrics.vqav2 import vqav2_accuracy
from pgbench.sources.files import digest, field, image_file, is_file, kind, text
from pgbench.types import DataRequest, Dataset, Image, Pixels, Profile, Sample, Task

Record: TypeAlias = Mapping[str, object]

SPLITS = {"all": None}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WANTED = "a file of records, JSON Lines (one record a line) or a JSON array"


def prompt(sample: Sample, profile: Profile, _variant: str) -> str:
    """The record's own prompt, else its question with its options below, `(A) ...`, one a line.

    No paper has options with questions of one's own; this is the form that pgbench gives MMMU's. Prompt style
    official: without `answer en`.
    """
    if sample.fields["verbatim"]:
        return sample.question
    options = [f"({letter}) {one}" for letter, one in zip(LETTERS, sample.options, strict=False)]
    asked = "\n".join([sample.question.strip(), *options])
    return asked if profile.style == "official" else f"answer en {asked}"


def gold(sample: Sample) -> str:
    """The right option's letter; of answers the one on which most agree, else the first."""
    if isinstance(sample.target, str):
        return sample.target
    answers = sample.target or ("",)
    return max(dict.fromkeys(answers), key=lambda answer: vqav2_accuracy(prediction=answer, answers=answers))


def from_file(request: DataRequest) -> Dataset:
    """The file that --data names. Raises DataError, naming the line or, in an array, the record."""
    if request.split not in SPLITS:
        raise DataError(unknown("split of custom", request.split, SPLITS))
    path = data_file(request.path)
    samples: list[Sample] = []
    places: dict[str, str] = {}
    kinds: dict[bool, str] = {}  # whether it has options -> where the first such record is
    for where, record in records(path):
        sample = read_sample(record, path.parent, where)
        if sample.id in places:
            raise DataError(f"{where}: id {sample.id!r} occurs twice, first in {places[sample.id]}")
        places[sample.id] = where
        if sample.target is not None:
            kinds.setdefault(bool(sample.options), where)
        if len(kinds) > 1:
            raise DataError(
                f"{kinds[True]} has options, {kinds[False]} has answers: two kinds of question, which no one "
                "number can sum up; put them into two files"
            )
        samples.append(sample)
    if not samples:
        raise DataError(f"{path.name} holds no records; expected {WANTED}")
    there: dict[str, bool] = {}
    missing = tuple(sample.id for sample in samples if not has_images(sample, path.parent, there))
    return Dataset(tuple(samples), digest_of(samples), path.name, None, missing)


def digest_of(samples: Sequence[Sample]) -> str:
    """As of every task, and over what a record chooses beyond that: how it is asked, groups, cluster."""
    more = [[one.fields["verbatim"], dict(one.groups), one.cluster] for one in samples]
    return json_key({"asked": digest(samples), "more": more})


def data_file(name: str | None) -> Path:
    if name is None:
        raise DataError(f"task custom needs --data FILE, {WANTED}")
    path = Path(name)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"--data {name} {what}; expected {WANTED}")
    return path


def records(path: Path) -> Iterator[tuple[str, Record]]:
    """Each record with its place. Raises DataError: unreadable, not UTF-8, not JSON, no object."""
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise DataError(f"{path.name} cannot be read: {exc.strerror}") from exc
    content = content.removeprefix(codecs.BOM_UTF8)  # at the start alone: inside a text it is a character
    if content.lstrip()[:1] == b"[":
        found = decoded(content, path.name)
        places = ((f"{path.name} record {number}", one) for number, one in enumerate(listed(found)))
    else:
        # not splitlines(), which also ends a line at U+2028 and the like, which JSON texts may hold
        lines = enumerate(content.split(b"\n"), 1)
        named = ((f"{path.name} line {number}", line) for number, line in lines if line.strip())
        places = ((where, decoded(line, where)) for where, line in named)
    for where, record in places:
        if not isinstance(record, dict):
            raise DataError(f"{where}: expected an object with id, image and question, got {kind(record)}")
        yield where, record


def listed(document: object) -> Sequence[object]:
    return document if isinstance(document, list) else ()


def decoded(content: bytes, where: str) -> object:
    try:
        return json.loads(content.decode("utf-8"), parse_constant=nothing, object_pairs_hook=unrepeated)
    except json.JSONDecodeError as exc:
        place = f"line {exc.lineno}, column {exc.colno}"
        raise DataError(f"{where}: not JSON: {exc.msg} at {place} of it; expected {WANTED}") from exc
    except UnicodeDecodeError as exc:
        raise DataError(f"{where}: not UTF-8 (byte {exc.start}); save it as UTF-8") from exc
    except RecursionError as exc:
        raise DataError(f"{where}: not JSON: nested too deeply") from exc
    except ValueError as exc:  # a repeated field, or a number of thousands of digits
        raise DataError(f"{where}: {exc}") from exc


def nothing(_constant: str) -> None:
    """NaN, which is no JSON, is how a table's empty cell is written by mistake; as a text it would be a
    reference that nobody gave."""


def unrepeated(pairs: Sequence[tuple[str, object]]) -> Record:
    """JSON takes the last of two equal names in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} occurs twice in one record")
    return found


def read_sample(record: Record, folder: Path, where: str) -> Sample:
    """One record. Raises DataError naming its place, its id and the field."""
    number = field(record, "id", where)
    if isinstance(number, bool) or not isinstance(number, (int, str)) or not str(number).strip():
        raise DataError(f"{where}: field 'id' should be text or a whole number, got {kind(number)}")
    name = text(str(number), "id", where)
    where = f"{where} (id {name})"
    images = read_images(field(record, "image", where), folder, where)
    asked = one_of(record, ("question", "prompt"), where)
    options, target = read_target(record, where)
    cluster = record.get("cluster")
    return Sample(
        id=name,
        images=images,
        question=text(record[asked], asked, where),
        target=target,
        options=options,
        fields={"verbatim": asked == "prompt"},
        groups=read_groups(record.get("groups"), where),
        cluster=" + ".join(image.name for image in images) if cluster is None else plain(cluster, where),
    )


def one_of(record: Record, names: Sequence[str], where: str) -> str:
    """The one of these fields that the record has. Raises DataError for none or both."""
    found = [name for name in names if record.get(name) is not None]
    if len(found) != 1:
        came = "has both" if found else "has neither"
        raise DataError(f"{where}: {came} of {' and '.join(map(repr, names))}; expected one of them")
    if not str(record[found[0]]).strip():
        raise DataError(f"{where}: field {found[0]!r} is empty")
    return found[0]


def read_images(value: object, folder: Path, where: str) -> tuple[Image, ...]:
    names = value if isinstance(value, list) else [value]
    if not names:
        raise DataError(f"{where}: field 'image' is an empty list; expected a path or several")
    return tuple(image_file(folder, safe_path(text(one, "image", where), where)) for one in names)


def safe_path(name: str, where: str) -> str:
    """A path below the file's folder, with "/". Raises DataError: a record must not choose files elsewhere.

    Links are followed: they were put there by whoever put the folder there.
    """
    path = PurePosixPath(name)
    drive = name[1:2] == ":"
    if not path.parts or path.is_absolute() or drive or ".." in path.parts or {"\\", "\0"} & set(name):
        raise DataError(
            f"{where}: image {name!r} is no path below the folder of the file; expected one like "
            "'images/1.jpg', without .. or \\, not absolute"
        )
    return path.as_posix()


def read_target(record: Record, where: str) -> tuple[tuple[str, ...], str | tuple[str, ...] | None]:
    """(options, target): the letter of the right option, or the answers; None where nothing is given."""
    answer, answers = record.get("answer"), record.get("answers")
    if record.get("options") is not None:
        if answers is not None:
            raise DataError(f"{where}: has 'options' and 'answers'; with options goes 'answer', one of them")
        options = read_options(record["options"], where)
        return options, None if answer is None else read_letter(answer, options, where)
    if answer is not None and answers is not None:
        raise DataError(f"{where}: has both 'answer' and 'answers'; expected one of them")
    key = "answer" if answers is None else "answers"
    return (), None if record.get(key) is None else texts(record[key], key, where)


def read_options(value: object, where: str) -> tuple[str, ...]:
    found = texts(value, "options", where) if isinstance(value, list) else ()
    if not 2 <= len(found) <= len(LETTERS) or len(set(found)) < len(found):
        raise DataError(f"{where}: field 'options' should be a list of 2 to {len(LETTERS)} different texts")
    return found


def read_letter(answer: object, options: Sequence[str], where: str) -> str:
    """The letter of the right option, from that letter, its place from 0, or its text."""
    known = LETTERS[: len(options)]
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(options):
        return known[answer]
    found = set()
    if isinstance(answer, str):
        found = {known[place] for place, option in enumerate(options) if option.strip() == answer.strip()}
        found |= {answer.strip().upper()} & set(known)
    if len(found) > 1:
        raise DataError(f"{where}: answer {answer!r} is a letter and an option's text; give its place from 0")
    if not found:
        raise DataError(
            f"{where}: answer {kind(answer)} is none of the options; expected a letter A to {known[-1]}, "
            f"a place 0 to {len(options) - 1}, or an option's text"
        )
    return found.pop()


def texts(value: object, key: str, where: str) -> tuple[str, ...]:
    """One text or a list of them. Raises DataError; an empty list is no way to say that there is none."""
    if value == []:
        raise DataError(f"{where}: field {key!r} is an empty list; leave it out where there is none")
    return tuple(text(one, key, where) for one in (value if isinstance(value, list) else [value]))


def read_groups(value: object, where: str) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataError(f"{where}: field 'groups' should be an object, name -> value, got {kind(value)}")
    if "" in value:
        raise DataError(f"{where}: field 'groups' has a value without a name")
    return {text(name, "groups", where): plain(one, where) for name, one in value.items()}


def plain(value: object, where: str) -> str:
    """The value of a group or cluster: a text, a number, true or false. Raises DataError."""
    if not isinstance(value, (str, int, float)) or not str(value):
        raise DataError(f"{where}: a group or cluster should be text or a number, got {kind(value)}")
    return text(value if isinstance(value, str) else json.dumps(value), "groups", where)


def has_images(sample: Sample, folder: Path, there: dict[str, bool]) -> bool:
    for image in sample.images:
        if image.name not in there:
            there[image.name] = is_file(folder / image.name)
    return all(there[image.name] for image in sample.images)


TASK = Task(
    name="custom",
    version=1,
    title="Your own questions: --data my.jsonl, --metric NAME",
    sources={"files": from_file},
    splits=SPLITS,
    prompt=prompt,
    gold=gold,
    metrics=(EXACT_MATCH,),
    pixels=Pixels(antialias=True, text_len=512),  # no config of big_vision has such questions
    max_new_tokens=32,
    cite="",
    licence="yours",
)
