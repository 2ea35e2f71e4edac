"""CMMMU: choice (选择), true or false (判断) and blank (填空) questions in Chinese (Zhang et al., 2024).

The rules are those of `eval/utils/eval_utils.py`, every quirk that can move a score kept and explained where
it stands. Where that script cannot decide it draws: `ACCURACY` takes the expectation of the draw,
`PLAIN_ACCURACY` calls it wrong, and both count it as invalid. No score here is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Literal, TypeAlias

from pgbench.errors import DataError
from pgbench.metrics import mean
from pgbench.metrics.mmmu import Found, as_number, matches, shortest_tail
from pgbench.types import Metric, Sample, Sums

Type: TypeAlias = Literal["选择", "判断", "填空"]

SOURCE = "CMMMU-Benchmark/CMMMU:eval/utils/eval_utils.py@e1ba883284c61e5f6bbf552addb87f6e48de87bc"
# "Random Choice" on val and on test, CMMMU-Benchmark/CMMMU@37190185:README.md
BLIND = 0.216
CHOICE: Type = "选择"
TRUE_FALSE: Type = "判断"
BLANK: Type = "填空"
TYPES = (CHOICE, TRUE_FALSE, BLANK)
LETTERS = "ABCD"

_ENDS = ",.!?;:'"  # taken off one character after the other, as in MMMU; no full-width ones
_TRIVIAL = frozenset(":,.!?;'")
_BLANK_CUES = ("是", "为", "所以", "等于", "方案", "选择", "正确答案", "因此", "最后", "答案", "结果")
_JUDGE_CUES = ("是", "为", "所以", "判断", "陈述", "说法", "表达", "答案", "结果")
# Positive words are looked for first, so 不正确, 不对 and 不准确 count as assent; what the original's lists
# hold beside these is part of them (对的) or never reached (不对).
_AMBIGUOUS = ("对错", "是否正确", "否正确", "或者", "是否", "正确性", "对不")
_POSITIVE = ("正确", "对", "准确", "肯定")
_NEGATIVE = ("错", "不合适", "否定")
_NUMBERS = (
    re.compile(r"-?\d{1,3}(?:，\d{3})+"),  # the full-width comma groups; unlike MMMU no word boundaries
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+)(?![eE][+-]?\d+)(?!，\d)"),
)
_MORE_CHARACTERS, _MORE_LETTERS = 20, 2  # than the reference has: a longer text is no answer
_LATIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def parse_choices(prediction: str, options: Sequence[str]) -> str | None:
    """The letters named most often, in order, such as "AC"; None where the official script would draw one.

    Counted in turn, until something is found: "(A)", the bare letter, the option's text. Traps: a letter
    counts in any word, so "DNA" is AD; full-width letters never do; an empty option occurs once more than
    there are characters.

    Source: `get_multi_choice_prediction` of `SOURCE`.

    >>> parse_choices("AAB", ["甲", "乙", "丙", "丁"]), parse_choices("CA", ["甲", "乙", "丙", "丁"])
    ('A', 'AC')
    """
    text = prediction
    for end in _ENDS:
        text = text.strip(end)
    text = f" {text} "
    for patterns in ([f"({letter})" for letter in LETTERS], LETTERS, options if text.strip() else ()):
        counts = [text.count(pattern) for pattern in patterns]
        if any(counts):
            return "".join(letter for letter, n in zip(LETTERS, counts, strict=False) if n == max(counts))
    return None


def parse_judgement(prediction: str) -> str | None:
    """对 or 错; None where the official script would draw: as many pieces for as against, or none.

    Source: `get_TF_prediction` and `judge_similarity` of `SOURCE`.

    >>> parse_judgement("不正确"), parse_judgement("错"), parse_judgement("无法判断")
    ('对', '错', None)
    """
    # a set: what is said twice counts once
    pieces = {one for one in _pieces(prediction, _JUDGE_CUES, ()) if not _holds(one, _AMBIGUOUS)}
    positive = {one for one in pieces if _holds(one, _POSITIVE)}
    negative = {one for one in pieces - positive if _holds(one, _NEGATIVE)}
    if len(positive) == len(negative):
        return None
    return "对" if len(positive) > len(negative) else "错"


def parse_blank(prediction: str, gold: str) -> frozenset[Found]:
    """What an answer to a blank may mean: texts, and numbers rounded to two decimals.

    Trap: a number grouped by full-width commas stays a text, and its last group counts as a number.
    Source: `get_fill_blank_prediction` of `SOURCE`.

    >>> sorted(parse_blank("所以x=1，000", "1000"), key=str)
    [0.0, '1，000']
    """
    kept = _pieces(prediction, _BLANK_CUES, ("=",))
    numbers = [number for one in kept for pattern in _NUMBERS for number in pattern.findall(one)]
    return frozenset(form for one in (*kept, *numbers) for form in comparable(one, gold))


def _holds(text: str, words: Sequence[str]) -> bool:
    return any(word in text for word in words)


def _pieces(prediction: str, cues: Sequence[str], last: Sequence[str]) -> list[str]:
    """Per sentence the shortest text after a cue; the whole answer where no sentence has one."""
    text = prediction.strip("。").strip()
    sentences = re.split(r"。|\n", text)
    known = [tuple(cues)] * (len(sentences) - 1) + [(*cues, *last)]
    tails = [shortest_tail(one, words) for one, words in zip(sentences, known, strict=True)]
    return [tail for tail in tails if tail and tail not in _TRIVIAL] or [text]


def comparable(text: str, gold: str) -> tuple[Found, ...]:
    """A number, or the text as it is; nothing where it is much longer than the reference.

    >>> comparable("12.345 ", "x"), comparable("Ab", "x"), comparable("abcd", "x")
    ((12.35,), ('Ab',), ())
    """
    stripped = text.strip()
    number = as_number(stripped)
    if number is not None:
        return (number,)
    longer = len(stripped) > len(gold) + _MORE_CHARACTERS
    return () if longer or _latin(stripped) > _latin(gold) + _MORE_LETTERS else (stripped,)


def _latin(text: str) -> int:
    return sum(character in _LATIN for character in text)


def response_accuracy(
    *, prediction: str, question_type: Type, gold: str, options: Sequence[str] = (), guess: bool = True
) -> tuple[float, bool]:
    """(score, invalid) of a model's text. Where the script would draw, the expectation, or 0 without `guess`.

    Invalid: nothing was chosen or judged, or the answer is empty. An empty answer to a choice is wrong
    without a draw, to a true or false question it is drawn. Source: `evaluate_response` of `SOURCE`.

    >>> response_accuracy(prediction="不知道", question_type="判断", gold="错")
    (0.5, True)
    """
    if question_type == BLANK:
        said = parse_blank(prediction, gold)
        return float(matches(said, comparable(gold, gold))), not prediction.strip()
    if question_type == CHOICE and not (prediction and options):
        return 0.0, True
    parsed = parse_choices(prediction, options) if question_type == CHOICE else parse_judgement(prediction)
    if parsed is not None:
        return float(parsed == gold), False
    drawn = tuple(LETTERS) if question_type == CHOICE else ("对", "错")  # single letters: "AC" is never drawn
    return (drawn.count(gold) / len(drawn) if guess else 0.0), True


def answer_accuracy(*, prediction: str, question_type: Type, gold: str) -> float:
    """1 or 0 for an answer that somebody parsed already. Source: `evaluate_answer` of `SOURCE`.

    >>> answer_accuracy(prediction="正确", question_type="判断", gold="对")
    0.0
    """
    if question_type != BLANK:
        return float(prediction == gold)
    return float(matches(frozenset(comparable(prediction, gold)), comparable(gold, gold)))


def type_of(sample: Sample) -> Type:
    """Raises DataError for a sample of no known type."""
    for known in TYPES:
        if sample.fields.get("type") == known:
            return known
    raise DataError(f"sample {sample.id}: field 'type' should be one of {', '.join(TYPES)}")


def _sums(guess: bool, unit: Sequence[tuple[Sample, str]]) -> Sums:
    ((sample, text),) = unit
    if not isinstance(sample.target, str):
        raise DataError(f"sample {sample.id}: expected a text as its target, got {sample.target!r}")
    kind = type_of(sample)
    score, invalid = response_accuracy(
        prediction=text, question_type=kind, gold=sample.target, options=sample.options, guess=guess
    )
    return {"sum": score, "n": 1.0, "invalid": float(invalid)}


ACCURACY = Metric(
    name="accuracy", stat=partial(_sums, True), reduce=mean, source=SOURCE, floor=BLIND, primary=True
)
PLAIN_ACCURACY = Metric(
    name="plain_accuracy", stat=partial(_sums, False), reduce=mean, source=SOURCE, floor=BLIND
)
