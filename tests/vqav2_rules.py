"""The rules of VQAv2's official script, written down once more, plainly and without any cache.

GT-Vision-Lab/VQA, PythonEvaluationTools/vqaEvaluation/vqaEval.py@a013f0043c1e. An answer leaves itself out by
its place, as the script's answer_id makes it. The tests compare pgbench with this, and
benchmarks/scoring.py its speed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MARKS = [";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-"]
MARKS += [">", "<", "@", "`", ",", "?", "!"]
COMMA = re.compile(r"(\d)(,)(\d)")
PERIOD = re.compile(r"(?!<=\d)(\.)(?!\d)")
NUMBERS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5"}
NUMBERS |= {"six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"}
ARTICLES = ["a", "an", "the"]


def table() -> dict[str, str]:
    """The script's 120 contractions, by their endings."""
    endings = {
        "n't": "aint arent cant couldnt didnt doesnt dont hadnt hasnt havent isnt mightnt mustnt neednt "
        "oughtnt shant shouldnt wasnt werent wont wouldnt",
        "'ve": "couldve mightve mustve notve shouldve theyve weve whatve whereve whove wouldve youve Ive",
        "'d": "hed howd itd someoned somethingd thered theyd whered whod youd",
        "'ll": "howll itll somebodyll someonell somethingll theyll whatll wholl whyll youll",
        "'s": "hes hows somebodys someones thats theres whats whens wheres whos whys",
        "'re": "therere theyre whatre whyre youre",
    }
    found = {
        word: word[: len(word) - len(ending) + 1] + ending
        for ending, words in endings.items()
        for word in words.split()
    }
    for b in "could had might should would".split():
        found |= dict.fromkeys([f"{b}nt've", f"{b}n'tve"], f"{b}n't've")
    for b in "he I it she somebody someone something there they we who you".split():
        found |= dict.fromkeys([f"{b}d've", f"{b}'dve"], f"{b}'d've")
    found |= {"Im": "I'm", "maam": "ma'am", "oclock": "o'clock", "twas": "'twas", "yall": "y'all"}
    found |= dict.fromkeys(["yall'll", "y'allll"], "y'all'll")
    found |= dict.fromkeys(["yall'd've", "y'alld've", "y'all'dve"], "y'all'd've")
    found |= dict.fromkeys(["ow's'at", "'ows'at", "'ow'sat"], "'ow's'at")
    return found | {"let's": "let's", "she's": "she's", "somebody'd": "somebodyd"}


CONTRACTIONS = table()


def punctuation(text: str) -> str:
    out = text
    for mark in MARKS:
        if (mark + " " in text or " " + mark in text) or (COMMA.search(text) is not None):
            out = out.replace(mark, "")
        else:
            out = out.replace(mark, " ")
    return PERIOD.sub("", out, count=32)  # the script: re.UNICODE, which is 32, in the place of the count


def digit_article(text: str) -> str:
    out = []
    for word in text.lower().split():
        number = NUMBERS.get(word, word)
        if number not in ARTICLES:
            out.append(number)
    for place, word in enumerate(out):
        if word in CONTRACTIONS:
            out[place] = CONTRACTIONS[word]
    return " ".join(out)


def light(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def accuracy(prediction: str, answers: Sequence[str]) -> float:
    said, texts = light(prediction), [light(answer) for answer in answers]
    if len(set(texts)) > 1:
        texts = [digit_article(punctuation(text)) for text in texts]
        said = digit_article(punctuation(said))
    each = []
    for place in range(len(texts)):
        others = [text for other, text in enumerate(texts) if other != place]
        matching = [text for text in others if text == said]
        each.append(min(1, float(len(matching)) / 3))
    return plus(each) / len(each)


def evaluate(rows: Iterable[tuple[str, Sequence[str], str, str]]) -> dict[str, object]:
    """Of (prediction, answers, answer type, question type): the script's percentages."""
    every, answer_types, question_types = [], dict[str, list[float]](), dict[str, list[float]]()
    for prediction, answers, answer_type, question_type in rows:
        score = accuracy(prediction, answers)
        every.append(score)
        answer_types.setdefault(answer_type, []).append(score)
        question_types.setdefault(question_type, []).append(score)
    return {
        "overall": percent(every),
        "perAnswerType": {name: percent(scores) for name, scores in answer_types.items()},
        "perQuestionType": {name: percent(scores) for name, scores in question_types.items()},
    }


def percent(scores: Sequence[float]) -> float:
    return round(100 * plus(scores) / len(scores), 2)


def plus(values: Sequence[float]) -> float:
    """The `sum` of the Python that the script ran under; from 3.12 on it corrects its rounding errors."""
    total = 0.0
    for value in values:
        total += value
    return total
