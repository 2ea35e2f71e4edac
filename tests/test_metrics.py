"""The VQA rules against a plain transcription of their definitions."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgbench.metrics import vqa
from pgbench.metrics.vqa import paper_accuracy, textvqa_accuracy

# --- an independent transcription: mmf m4c_evaluators.py@b0ffc7fba39f, big_vision vqav2.py@0127fb6b337e ---

MARKS = [
    ";",
    "/",
    "[",
    "]",
    '"',
    "{",
    "}",
    "(",
    ")",
    "=",
    "+",
    "\\",
    "_",
    "-",
    ">",
    "<",
    "@",
    "`",
    ",",
    "?",
    "!",
]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
# by how many letters stand behind the apostrophe
BEHIND = {
    1: "aint arent cant couldnt didnt doesnt dont hadnt hasnt havent isnt mightnt mustnt neednt oughtnt "
    "shant shouldnt wasnt werent wont wouldnt hed howd itd someoned somethingd thered theyd whered whod youd "
    "hes hows somebodys someones thats theres whats whens wheres whos whys Im",
    2: "couldve mightve mustve notve shouldve theyve weve whatve whereve whove wouldve youve Ive howll itll "
    "somebodyll someonell somethingll theyll whatll wholl whyll youll therere theyre whatre whyre youre maam",
    3: "yall",
    4: "twas",
    5: "oclock",
}
BEFORE_NT_VE = "could had might should would"
BEFORE_D_VE = "he I it she somebody someone something there they we who you"


def reference_table() -> dict[str, str]:
    table = {w: f"{w[:-k]}'{w[-k:]}" for k, words in BEHIND.items() for w in words.split()}
    for b in BEFORE_NT_VE.split():
        table |= {f"{b}nt've": f"{b}n't've", f"{b}n'tve": f"{b}n't've"}
    for b in BEFORE_D_VE.split():
        table |= {f"{b}d've": f"{b}'d've", f"{b}'dve": f"{b}'d've"}
    table |= {"yall'll": "y'all'll", "y'allll": "y'all'll"}
    table |= dict.fromkeys(["yall'd've", "y'alld've", "y'all'dve"], "y'all'd've")
    table |= dict.fromkeys(["ow's'at", "'ows'at", "'ow'sat"], "'ow's'at")
    return table | {"let's": "let's", "she's": "she's", "somebody'd": "somebodyd"}


CONTRACTIONS = reference_table()


def reference_vqav2(text: str, periods: int | None) -> str:
    original, glue = text, bool(re.search("[0-9٠-٩०-९０-９],[0-9٠-٩०-९０-９]", text))
    for mark in MARKS:
        touches = mark + " " in original or " " + mark in original
        text = "".join(text.split(mark)) if glue or touches else " ".join(text.split(mark))
    kept, removed = [], 0
    for i, char in enumerate(text):
        if char == "." and not text[i + 1 : i + 2].isdecimal() and (periods is None or removed < periods):
            removed += 1
        else:
            kept.append(char)
    words = ["0" if w == "none" else w for w in "".join(kept).lower().split()]
    words = [str(NUMBERS.index(w)) if w in NUMBERS else w for w in words]
    words = [w for w in words if w not in ("a", "an", "the")]
    return " ".join(CONTRACTIONS.get(w, w) for w in words)


def reference_textvqa(text: str) -> str:
    text = text.lower()
    for old, new in [(",", ""), ("?", ""), ("'s", " 's")]:
        text = text.replace(old, new)
    return reference_vqav2(text.strip().replace("\n", " ").replace("\t", " ").strip(), 32)


def reference_score(said: str, answers: Sequence[str]) -> float:
    each = []
    for left_out in range(len(answers)):
        others = [a for i, a in enumerate(answers) if i != left_out]
        each.append(min(1.0, others.count(said) / 3))
    return sum(each) / len(each)


def reference_official(prediction: str, answers: Sequence[str]) -> float:
    return reference_score(reference_textvqa(prediction), [reference_textvqa(a) for a in answers])


def reference_paper(prediction: str, answers: Sequence[str]) -> float:
    said, *texts = [t.replace("\n", " ").replace("\t", " ").strip() for t in (prediction, *answers)]
    if any(t != texts[0] for t in texts):
        said, *texts = [reference_vqav2(t, None) for t in (said, *texts)]
    return reference_score(said, texts)


ATOMS = [
    *MARKS,
    *[" "] * 12,
    *["\n", "\t", "\r", "\x0b", "\x1c", "\x85", "\u00a0", "\u2009", "\u2028", "\u200b"],
    *[
        ".",
        "..",
        "." * 31,
        "." * 34,
        "3.5",
        ".5",
        "1.",
        "1,234",
        "1,,2",
        "٣,٤",
        "१.२",
        "５.６",
        "²",
        "½.",
        "$",
        "%",
    ],
    *["a", "an", "the", "A", "The", "none", "None", "ten", "eleven", "One", *NUMBERS],
    *[
        "'",
        "'s",
        "'S",
        "s'",
        "’s",
        "İ",
        "ß",
        "ﬁ",
        "É",
        "。",
        "，",
        "？",
        "red",
        "Coca",
        "COLA",
        "I",
        "can",
        "t",
    ],
    *CONTRACTIONS,
    *CONTRACTIONS.values(),
]
texts = st.lists(st.sampled_from(ATOMS), max_size=8).map("".join) | st.text(max_size=12)
CHANGES = [
    lambda t: t,
    lambda t: t,
    str.upper,
    str.title,
    lambda t: f" {t}\n",
    lambda t: f"the {t}.",
    lambda t: t.replace("'", ""),
    lambda t: t.replace(" ", "-"),
]


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A prediction and ten answers that agree now and then, by way of what normalisation undoes."""
    pool = draw(st.lists(texts, min_size=1, max_size=3))
    varied = st.builds(lambda change, text: change(text), st.sampled_from(CHANGES), st.sampled_from(pool))
    if draw(st.integers(0, 4)) == 0:
        return draw(varied), [pool[0]] * 10
    return draw(varied), draw(st.lists(varied, min_size=10, max_size=10))


@given(questions())
@settings(max_examples=400, deadline=None)
def test_both_rules_agree_with_their_transcription(question: tuple[str, list[str]]) -> None:
    said, answers = question
    official, paper = reference_official(said, answers), reference_paper(said, answers)
    assert textvqa_accuracy(prediction=said, answers=answers) == pytest.approx(official, abs=1e-12)
    assert paper_accuracy(prediction=said, answers=answers) == pytest.approx(paper, abs=1e-12)


@given(texts)
@settings(max_examples=400, deadline=None)
def test_normal_forms_agree_with_their_transcription(text: str) -> None:
    assert vqa._textvqa_text(text) == reference_textvqa(text)
    assert vqa._vqav2_text(text, vqa.ALL) == reference_vqav2(text, None)
    assert vqa._vqav2_text(text, vqa.FIRST_32) == reference_vqav2(text, 32)


def test_the_contraction_table_is_the_official_one() -> None:
    """120 entries; those that map to themselves or hold a capital cannot move a score and are left out."""
    assert len(CONTRACTIONS) == 120
    live = {
        wrong: right for wrong, right in CONTRACTIONS.items() if wrong != right and wrong == wrong.lower()
    }
    assert live == vqa._CONTRACTIONS
    assert len(live) == 114


SIX = ["x"] * 4  # with six equal answers: enough to score 1, and not unanimous


@pytest.mark.parametrize(
    ("said", "answer", "official", "paper"),
    [
        ("Coca-Cola", "coca cola", 1, 1),
        ("a two", "2", 1, 1),
        ("none", "zero", 1, 1),
        ("twelve", "12", 0, 0),
        ("1,234", "1234", 1, 1),
        (
            "1,234-5",
            "1234 5",
            1,
            0,
        ),  # digit, comma, digit: all marks vanish; the official rule has lost the comma
        ("1,234-5", "12345", 0, 1),
        ("- b-c", "bc", 1, 1),  # one dash touches a space, so every dash vanishes
        ("b-c", "b c", 1, 1),
        ("b;-c d-e", "b c d e", 1, 1),  # the dash gets beside a space when the semicolon goes: too late
        ("b ;-c d-e", "b c d e", 1, 1),
        ("mens", "men's", 0, 0),
        ("men 's", "men's", 1, 0),
        ("thats", "that's", 0, 1),  # the official rule splits 's off, too early for its table
        ("THAT'S", "that 's", 1, 0),
        ("cant", "can't", 1, 1),
        ("somebody'd", "somebodyd", 1, 1),
        ("Im", "I'm", 0, 0),  # the table's capitals never match
        ("im", "i'm", 0, 0),
        ("." * 32 + "b", "b", 1, 1),
        ("." * 33 + "b", "b", 0, 1),
        (".5.", ".5", 1, 1),
        ("५.५", "५५", 0, 0),  # a period before any Unicode digit stays
        ("b\rc", "b c", 1, 1),  # split() takes every white space
        ("b\u00a0c", "b c", 1, 1),
        ("b\u200bc", "b c", 0, 0),  # which a zero-width space is not
        ("b;\rc", "b c", 1, 1),
        ("\u00a0b\n", "b", 1, 1),
        ("b。", "b", 0, 0),
        ("b: c", "b c", 0, 0),  # a colon is not among the marks
        ("", "the", 1, 1),
        ("?", "", 1, 1),
        ("", "x y", 0, 0),
    ],
)
def test_rule_by_rule(said: str, answer: str, official: float, paper: float) -> None:
    answers = [answer] * 6 + SIX
    assert textvqa_accuracy(prediction=said, answers=answers) == official
    assert paper_accuracy(prediction=said, answers=answers) == paper


@pytest.mark.parametrize(
    ("said", "official", "paper"), [("Yes", 1, 0), ("yes.", 1, 0), ("the yes", 1, 0), (" yes\n", 1, 1)]
)
def test_the_paper_takes_a_unanimous_answer_to_the_letter(said: str, official: float, paper: float) -> None:
    answers = ["yes", "yes ", "\tyes", "yes\n", "yes", "yes", "yes", "yes", "yes", "yes"]
    assert textvqa_accuracy(prediction=said, answers=answers) == official
    assert paper_accuracy(prediction=said, answers=answers) == paper


@pytest.mark.parametrize(
    ("matches", "wanted"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0), (10, 1.0)]
)
@pytest.mark.parametrize("rule", [textvqa_accuracy, paper_accuracy])
def test_ten_answers_give_the_known_steps(rule: vqa._Rule, matches: int, wanted: float) -> None:
    assert rule(prediction="x", answers=["x"] * matches + ["y"] * (10 - matches)) == wanted


@pytest.mark.parametrize("rule", [textvqa_accuracy, paper_accuracy])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 12])
def test_any_number_of_answers_is_left_out_one_by_one(rule: vqa._Rule, n: int) -> None:
    for matches in range(n + 1):
        answers = ["x"] * matches + ["y"] * (n - matches)
        assert rule(prediction="x", answers=answers) == pytest.approx(reference_score("x", answers))


@pytest.mark.parametrize("rule", [textvqa_accuracy, paper_accuracy])
def test_no_answers_is_an_error(rule: vqa._Rule) -> None:
    with pytest.raises(ValueError, match="no answers to compare with"):
        rule(prediction="x", answers=[])
