"""The VQA family: ten people answered each question, and an answer is right as far as they agree with it.

Two rules for the same questions, which differ in how texts are made comparable:

- `textvqa_accuracy`: the official TextVQA scorer, the class pair `EvalAIAnswerProcessor` and
  `TextVQAAccuracyEvaluator` of facebookresearch/mmf;
- `paper_accuracy`: the evaluator behind PaliGemma's published VQAv2 and TextVQA numbers, in
  google-research/big_vision, which follows the 2021 VQAv2 script except for one period quirk.

Every quirk of the originals that can move a score is kept, and explained where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import repeat
from typing import Protocol

from pgbench.errors import DataError
from pgbench.metrics import mean
from pgbench.types import Metric, Sample, Sums

MMF = "facebookresearch/mmf:mmf/utils/m4c_evaluators.py@b0ffc7fba39f210f833c127362146aec01a2f259"
BIG_VISION = (
    "google-research/big_vision:big_vision/evaluators/proj/paligemma/transfers/vqav2.py"
    "@0127fb6b337ee2a27bf4e54dea79cff176527356"
)

# GT-Vision-Lab/VQA vqaEval.py@a013f0043c1e and mmf pass re.UNICODE, which is 32, where `sub` expects a
# count: no more than the first 32 periods of a text are removed. big_vision removes all of them.
FIRST_32 = 32
ALL = 0  # what `re.sub` calls no limit

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'  # not : ' . $ % # & * ~ | nor anything beyond ASCII
_DIGIT_COMMA = re.compile(r"\d,\d")  # \d is any Unicode digit, as in the originals under Python 3
# The originals write (?!<=\d)(\.)(?!\d), a mistyped look-behind that never blocks.
_PERIOD = re.compile(r"\.(?!\d)")
_ARTICLES = frozenset({"a", "an", "the"})
_COUNT = "zero one two three four five six seven eight nine ten"  # nothing above ten
_NUMBERS = {"none": "0"} | {word: str(value) for value, word in enumerate(_COUNT.split())}
# The correct spellings of the official table, which maps each one with exactly one apostrophe missing
# to itself (couldnt've and couldn'tve, not couldntve). Left out, since they cannot move a score: let's
# and she's, which map to themselves, and Im, Ive, Id've, I'dve, whose capital no lower-cased text has.
# "its", "im", "wed", "shell" and the like are not in the official table either.
_SPELLINGS = """
    ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't mightn't mustn't needn't
    oughtn't shan't shouldn't wasn't weren't won't wouldn't
    could've might've must've not've should've they've we've what've where've who've would've you've
    he'd how'd it'd someone'd something'd there'd they'd where'd who'd you'd
    how'll it'll somebody'll someone'll something'll they'll what'll who'll why'll you'll
    he's how's somebody's someone's that's there's what's when's where's who's why's
    there're they're what're why're you're
    couldn't've hadn't've mightn't've shouldn't've wouldn't've he'd've it'd've she'd've somebody'd've
    someone'd've something'd've there'd've they'd've we'd've who'd've you'd've
    ma'am o'clock 'twas y'all y'all'll y'all'd've 'ow's'at
"""
_CONTRACTIONS = {
    word[:i] + word[i + 1 :]: word for word in _SPELLINGS.split() for i, c in enumerate(word) if c == "'"
} | {"somebody'd": "somebodyd"}  # inverted in the original
_WORDS = _NUMBERS | _CONTRACTIONS  # no number is a contraction: one look-up does the two steps


def _light(text: str) -> str:
    """White space as the originals treat it: \\r or a no-break space inside a text stays."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def _unpunctuate(text: str, periods: int) -> str:
    """Each mark becomes a space, or nothing if it touches a space anywhere in the text.

    A digit, comma, digit anywhere makes every mark vanish: 1,234-5 becomes 12345.
    """
    glue = _DIGIT_COMMA.search(text) is not None
    out = text
    for mark in _PUNCTUATION:
        if mark in text:
            # the text as given decides, not what earlier marks have left of it
            drop = glue or f"{mark} " in text or f" {mark}" in text
            out = out.replace(mark, "" if drop else " ")
    return _PERIOD.sub("", out, count=periods)


def _plain_words(text: str) -> str:
    """Lower case, number words as digits, no articles, apostrophes restored, single spaces."""
    words = (_WORDS.get(word, word) for word in text.lower().split())
    return " ".join(word for word in words if word not in _ARTICLES)


def _vqav2_text(text: str, periods: int) -> str:
    return _plain_words(_unpunctuate(text, periods))


# Answers repeat within and between questions. 65,536 texts are more than TextVQA's validation split has.
@lru_cache(maxsize=1 << 16)
def _textvqa_text(text: str) -> str:
    # Lower case comes first here, and ' s is split off: men's -> men 's. The contraction table therefore
    # makes that's of thats, while that's itself has become that 's: the two do not match.
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return _plain_words(_unpunctuate(_light(text), FIRST_32))


@lru_cache(maxsize=1 << 10)
def leave_one_out(matches: int, n: int) -> float:
    """The mean over n answers of min(1, matches among the other n - 1 / 3), in closed form.

    The originals know 10 answers only (0, 0.3, 0.6, 0.9, 1 for 0 to 4 matches) and leave out by index.
    """
    mine, others = min(3, max(0, matches - 1)), min(3, matches)  # thirds: whole numbers, summed exactly
    return (matches * mine + (n - matches) * others) / (3 * n)


def textvqa_accuracy(*, prediction: str, answers: Sequence[str]) -> float:
    """Official TextVQA accuracy of one answer, a fraction in [0, 1].

    Prediction and answers are normalised (lower case, punctuation, digits, articles, contractions); the
    score is the mean over the answers, each left out in turn, of min(1, matches among the others / 3).
    There is no unanimity exception. An empty prediction matches the answers that normalise to nothing.

    Source: facebookresearch/mmf, mmf/utils/m4c_evaluators.py @ b0ffc7fba39f.
    Deviation: the original asserts exactly 10 answers; here any number of them counts by the same rule.
    Raises ValueError where there are no answers.

    >>> textvqa_accuracy(prediction="The Coca-Cola!", answers=["coca cola"] * 2 + ["pepsi"] * 8)
    0.6
    >>> textvqa_accuracy(prediction="mens", answers=["men's"] * 10)
    0.0
    """
    need_answers(answers)
    said = _textvqa_text(prediction)
    return leave_one_out(sum(_textvqa_text(answer) == said for answer in answers), len(answers))


def paper_accuracy(*, prediction: str, answers: Sequence[str]) -> float:
    """The accuracy that PaliGemma's papers report for VQAv2 and TextVQA, a fraction in [0, 1].

    Where the answers, white space apart, are all the same text, the prediction must equal it to the
    letter: case, punctuation and articles count. Otherwise all texts are normalised, and the score is
    the mean over the answers, each left out in turn, of min(1, matches among the others / 3).

    Source: google-research/big_vision, evaluators/proj/paligemma/transfers/vqav2.py @ 0127fb6b337e; it
    differs from the official VQAv2 script in removing every period, not the first 32 alone.
    Deviation: the original counts on exactly 10 answers; here any number counts by the same rule.
    Raises ValueError where there are no answers.

    >>> paper_accuracy(prediction="Wii", answers=["wii"] * 10)
    0.0
    >>> paper_accuracy(prediction="Wii", answers=["wii"] * 9 + ["nintendo"])
    1.0
    """
    need_answers(answers)
    return leave_one_out(vqav2_matches(prediction, answers, ALL).count(True), len(answers))


def vqav2_matches(prediction: str, answers: Sequence[str], periods: int) -> tuple[bool, ...]:
    """Which answers the prediction equals by the VQAv2 rule: to the letter where all answers, white space
    apart, are the same text, normalised otherwise. `periods`: how many of them normalising removes."""
    if answers.count(answers[0]) == len(answers):  # a short cut, for speed alone
        return (_texts(prediction, periods)[0] == _texts(answers[0], periods)[0],) * len(answers)
    texts = list(map(_texts, answers, repeat(periods)))
    form = 0 if texts.count(texts[0]) == len(texts) else 1  # equal light forms have equal normal forms
    said = _texts(prediction, periods)[form]
    return tuple([text[form] == said for text in texts])


@lru_cache(maxsize=1 << 16)
def _texts(text: str, periods: int) -> tuple[str, str]:
    """The two forms in which texts are compared: white space apart, and normalised."""
    light = _light(text)
    return light, _vqav2_text(light, periods)


def need_answers(answers: Sequence[str]) -> None:
    """Raises ValueError where there are none."""
    if not answers:
        raise ValueError("no answers to compare with: expected at least one, ten in TextVQA and VQAv2")


class _Rule(Protocol):
    def __call__(self, *, prediction: str, answers: Sequence[str]) -> float: ...


def sums_of_one(rule: _Rule, unit: Sequence[tuple[Sample, str]]) -> Sums:
    """One sample's sums. An answer of white space counts as invalid and is scored all the same.

    The official rules give an empty text what it matches, and ten annotators who wrote "the", "?" or
    "..." have answers that normalise to nothing: to call it wrong would leave the official number.
    """
    ((sample, text),) = unit
    if not isinstance(sample.target, tuple) or not sample.target:
        raise DataError(
            f"sample {sample.id}: expected a tuple of answers as its target, got {sample.target!r}; "
            "a source gives the annotators' answers there, or None where there are none"
        )
    score = rule(prediction=text, answers=sample.target)
    return {"sum": score, "n": 1.0, "invalid": 0.0 if text.strip() else 1.0}


TEXTVQA_ACCURACY = Metric(
    name="accuracy", stat=partial(sums_of_one, textvqa_accuracy), reduce=mean, source=MMF, primary=True
)
PAPER_ACCURACY = Metric(
    name="paper_accuracy", stat=partial(sums_of_one, paper_accuracy), reduce=mean, source=BIG_VISION
)
