"""Files of answers made elsewhere, to sample id -> answer: JSON, JSON Lines, benchmarks' own result files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pgbench.errors import DataError
from pgbench.keys import bytes_key
from pgbench.sources.files import kind
from pgbench.types import ResultReader, Sample

Record: TypeAlias = Mapping[str, object]

IDS = ("id", "sample_id", "question_id", "questionId")
ANSWERS = ("answer", "prediction", "output", "text", "response")
_SHOWN = 3  # surplus ids in a message
_LONGEST = 60  # characters of an id in a message


@dataclass(frozen=True, slots=True)
class Answers:
    """What the files held."""

    by_id: Mapping[str, str]
    stem: str  # of the first file, or of the folder
    revision: str  # sha256 of the files' content, in order
    surplus: tuple[str, ...] = ()  # ids that no sample has, in the order of the files


def generic(document: object) -> dict[str, str]:
    """A JSON array of records, a JSON object {id: answer} or the records of JSON Lines.

    An id is called id, sample_id, question_id or questionId; an answer answer, prediction, output, text or
    response: the names used by the benchmarks' own result files. Trap: where a record has two of the latter,
    one of them may be the reference, which would score full marks; it is refused.
    Raises DataError, naming the record.
    """
    if isinstance(document, dict) and not any(key in document for key in IDS):
        return unique(
            _pair({"id": one, "answer": answer}, one[:_LONGEST]) for one, answer in document.items()
        )
    return unique(_pair(record, str(number)) for number, record in enumerate(listed(document), 1))


def response_first(document: object, _samples: Sequence[Sample]) -> Mapping[str, str]:
    """For benchmarks whose result files call the model's words `response` and the reference `answer`.

    Where one record has a `response`, all must: the others' `answer` may be the reference, which would score
    full marks. Everything else is read as `generic` does. Raises DataError.
    """
    records = listed(document)
    if not any(isinstance(record, dict) and "response" in record for record in records):
        return generic(document)
    said = []
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict) or "response" not in record:
            raise DataError(f"record {number} has no 'response', as others have; 'answer' is the reference")
        said.append({key: value for key, value in record.items() if key != "answer"})
    return generic(said)


def whole_ids(document: object, _samples: Sequence[Sample]) -> Mapping[str, str]:
    """For benchmarks that join on whole numbers: 0012, "12" and 12 are one id.

    Raises DataError.
    """
    pairs = generic(document).items()
    return unique((_whole(one) if one.isascii() and one.isdecimal() else one, said) for one, said in pairs)


def _whole(digits: str) -> str:
    """Not by `int`, which takes 4,300 digits at most.

    >>> _whole("0012"), _whole("00")
    ('12', '0')
    """
    return digits.lstrip("0") or "0"


def by_question(records: Sequence[object], lists: Mapping[str, Sequence[Sample]]) -> Mapping[str, str]:
    """Answers {"question", "answer"} without ids: whole lists of questions in their order, one or several.

    A list is known by the text of its questions, and every text is compared, so that no answer is paired
    by its place alone. The last list may be cut short. Raises DataError with the record that fits none.
    """
    lists = {name: samples for name, samples in lists.items() if samples}
    said = [_question(record, f"record {number}") for number, record in enumerate(records, 1)]
    asked = {name: [one.question.strip() for one in samples] for name, samples in lists.items()}
    found: dict[str, str] = {}
    at = 0
    while at < len(said):
        rest = [question for question, _ in said[at:]]
        fits = {name: _agreeing(rest, questions) for name, questions in asked.items()}
        whole = [name for name, count in fits.items() if 0 < count == min(len(rest), len(asked[name]))]
        if len(whole) != 1:
            raise DataError(_unplaced(rest, at, asked, fits, whole))
        samples = lists[whole[0]][: len(rest)]
        found |= {one.id: text for one, (_, text) in zip(samples, said[at:], strict=False)}
        at += len(samples)
        del asked[whole[0]]
    return found


def _question(record: object, where: str) -> tuple[str, str]:
    if not isinstance(record, dict):
        raise DataError(f"{where} is a {type(record).__name__}, expected an object")
    question, answer = record.get("question"), record.get("answer")
    if not isinstance(question, str) or not isinstance(answer, str):
        raise DataError(
            f"{where} needs a question and an answer (text); it has {', '.join(record) or 'nothing'}"
        )
    return question.strip(), answer


def _agreeing(said: Sequence[str], asked: Sequence[str]) -> int:
    """How many questions agree before the first that does not."""
    pairs = enumerate(zip(said, asked, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(said), len(asked)))


def _unplaced(
    rest: Sequence[str],
    at: int,
    asked: Mapping[str, Sequence[str]],
    fits: Mapping[str, int],
    whole: Sequence[str],
) -> str:
    if whole:
        return (
            f"the questions from record {at + 1} fit {' and '.join(whole)} alike; give records with whole ids"
        )
    if not asked:
        return f"record {at + 1} is one too many: all questions have their answer"
    best = max(fits, key=lambda name: fits[name])
    place = fits[best]
    expected = f"question {place + 1} of {best} is {asked[best][place][:60]!r}"
    return f"record {at + place + 1} answers {rest[place][:60]!r}, but {expected}; keep the published order"


def unique(pairs: Iterator[tuple[str, str]]) -> dict[str, str]:
    """Raises DataError for an id that comes twice."""
    found: dict[str, str] = {}
    for number, (one, answer) in enumerate(pairs, 1):
        if one in found:
            raise DataError(f"record {number} repeats the id {one[:_LONGEST]}")
        found[one] = answer
    return found


def listed(document: object) -> Sequence[object]:
    return document if isinstance(document, list) else [document]


def read_predictions(data: bytes, name: str) -> dict[str, str]:
    """Sample id -> answer of one file that `generic` can read. Raises DataError, naming file and record."""
    return dict(_read(data, name, None, ()))


def read_files(
    path: Path, more: Sequence[Path], reader: ResultReader | None, samples: Sequence[Sample]
) -> Answers:
    """The answers of one file, of several, or of all JSON files in a folder; surplus ones are told apart.

    Raises DataError: unreadable, no answers, an id twice, none of the ids is a sample's.
    """
    found: dict[str, str] = {}
    contents = []
    for file in (one for given in (path, *more) for one in _files(given)):
        data = _bytes(file)
        contents.append(data)
        for one, answer in _read(data, file.name, reader, samples).items():
            if one in found:
                raise DataError(f"{file.name}: the id {one} is in an earlier file already")
            found[one] = answer
    return Answers(found, path.stem, bytes_key(contents), _surplus(found, samples, path.name))


def _surplus(found: Mapping[str, str], samples: Sequence[Sample], name: str) -> tuple[str, ...]:
    known = {sample.id for sample in samples}
    surplus = tuple(one for one in found if one not in known)
    if len(surplus) == len(found):
        raise DataError(
            f"{name}: none of its {len(found):,} ids is in the split; first {surplus[0][:_LONGEST]!r}, the "
            f"first sample's is {samples[0].id[:_LONGEST]!r}; take another --split or --source"
            if samples
            else f"{name}: the split has no samples"
        )
    return surplus


def surplus_note(surplus: Sequence[str]) -> str:
    """One line on answers that belong to no sample.

    >>> surplus_note(["a", "b", "c", "d"])
    '4 answers belong to no sample of this split and were left out: a, b, c, ...'
    """
    names = ", ".join(
        [*(one[:_LONGEST] for one in surplus[:_SHOWN]), *(["..."] if len(surplus) > _SHOWN else [])]
    )
    count = "1 answer belongs" if len(surplus) == 1 else f"{len(surplus):,} answers belong"
    were = "was" if len(surplus) == 1 else "were"
    return f"{count} to no sample of this split and {were} left out: {names}"


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        files = sorted(one for one in path.iterdir() if one.suffix in (".json", ".jsonl"))
    except OSError as error:
        raise DataError(f"cannot read predictions {path}: {error.strerror}") from error
    if not files:
        raise DataError(f"{path} holds no .json or .jsonl file")
    return files


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read predictions {path}: {error.strerror}") from error


def _read(
    data: bytes, name: str, reader: ResultReader | None, samples: Sequence[Sample]
) -> Mapping[str, str]:
    try:
        document = _document(data)
        found = reader(document, samples) if reader else generic(document)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    if not found:
        raise DataError(f"{name} holds no predictions")
    return found


def _document(data: bytes) -> object:
    try:
        return json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        whole = error
    lines = data.splitlines()  # of bytes: U+2028 in an answer ends no line
    return [_json_line(raw, number, whole) for number, raw in enumerate(lines, 1) if raw.strip()]


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object whose keys differ; json would keep the last of two without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise DataError(f"it repeats the key {next(key for key in keys if keys.count(key) > 1)}")
    return found


def _json_line(raw: bytes, number: int, whole: Exception) -> object:
    """`whole`: why the file is not one document, which says more where not even its first line is one."""
    try:
        return json.loads(raw.removeprefix(b"\xef\xbb\xbf"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        reason = f"it is not JSON: {whole}" if number == 1 else f"line {number} is not JSON: {error}"
        raise DataError(reason) from error


def _pair(record: object, where: str) -> tuple[str, str]:
    if not isinstance(record, dict):
        raise DataError(f"record {where} is a {type(record).__name__}, expected an object")
    ids, said = [key for key in IDS if key in record], [key for key in ANSWERS if key in record]
    if not ids or not said:
        raise DataError(
            f"record {where} needs one of {', '.join(IDS)} and one of {', '.join(ANSWERS)}; "
            f"it has {', '.join(map(str, record))[:_LONGEST] or 'nothing'}"
        )
    sample, answer = record[ids[0]], record[said[0]]
    if not isinstance(sample, str | int) or isinstance(sample, bool):
        raise DataError(f"record {where}: {ids[0]!r} should be text or a whole number, got {kind(sample)}")
    if any(str(record[key]) != str(sample) for key in ids):
        raise DataError(
            f"record {where} has {' and '.join(map(repr, ids))}, which differ; keep the sample's id"
        )
    if len(said) > 1:
        raise DataError(f"record {where} has both {said[0]!r} and {said[1]!r}; keep what the model said")
    if not isinstance(answer, str):
        raise DataError(f"record {where}: {said[0]!r} should be text, got {kind(answer)}")
    return str(sample), answer
