"""DOCCI's sentences, and its scores, which are sacrebleu's own over the same captions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import sacrebleu
from docci_layout import TEXTS
from hypothesis import given
from hypothesis import strategies as st
from pgbench_tasks.docci import TASK

from pgbench.metrics import docci
from pgbench.metrics.docci import METRICS, sentences
from pgbench.metrics.scoring import ClusterSums, score
from pgbench.records import Score
from pgbench.types import Sample

CAPTIONS = st.lists(st.sampled_from("a the dog cat. red, on «Mr. 图 x\u2028y 3.5 (it) .".split(" "))).map(
    " ".join
)


def scores(references: Sequence[str], answers: Sequence[str | None]) -> dict[str, Score]:
    samples = [Sample(str(number), (), "", known) for number, known in enumerate(references)]
    rows = list(zip(samples, answers, strict=True))
    return {metric.name: score(metric, rows) for metric in METRICS}


# --- sentences


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (TEXTS[0], (TEXTS[0][:58], "It lies on the rug by No. 5.")),
        ("Mr. Smith, Jr. waves at 3 p.m. today. In the U.S. it is hot!  Is it?", 3),
        ("A dog. A dog. A dog.", ("A dog.", "A dog.", "A dog.")),
        ("", ()),
        (" \n\t", ()),
        ("no end", ("no end",)),
        ("One line\nAnother line", ("One line", "Another line")),
        ("A \u2238 mark of pysbd's ∯ own. The next one.", 2),
        ("一只狗。它很大。", 2),
    ],
)
def test_sentences(text: str, found: tuple[str, ...] | int) -> None:
    assert (len(sentences(text)) if isinstance(found, int) else sentences(text)) == found


HOSTILE = st.lists(
    st.sampled_from([*"()[]{}\\|*+?^$.,:;!\"'“”‘’«»&@#\0\t\n\r\x0b\x85\u2028\u3000。！？∯ȸ♨☝ᓴᓷ1aA图 "])
    | st.sampled_from(
        ["No. ", "Mr. ", "e.g. ", "1. ", "a) ", "(iv) ", "Yahoo! ", ". . .", "...", "U.S.", "p.m. "]
    )
    | st.characters()
).map("".join)


@given(HOSTILE)
def test_sentences_lose_white_space_alone(text: str) -> None:
    found = sentences(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(one and one == one.strip() for one in found)


@pytest.mark.parametrize("unit", ["A dog lies on No. 5. ", "1. ", "(", "\\", "[", '"a ', ".", "图", "a"])
def test_long_text_takes_no_minutes(unit: str) -> None:
    """pysbd's time grows with the square; 50,000 characters at once take 26 s of "1. "."""
    text = unit * (20_000 // len(unit))
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


def test_long_text_is_parted_after_a_sentence() -> None:
    one = "A dog lies on the rug by No. 5, and it sleeps."
    assert set(sentences(" ".join([one] * 500))) == {one}


def test_plain_text_is_cut_where_pysbd_cuts_it() -> None:
    import pysbd  # type: ignore[import-untyped]

    for text in TEXTS:
        cut = pysbd.Segmenter(language="en", clean=False).segment(text)
        assert sentences(text) == tuple(one.strip() for one in cut)


def test_pysbd_gets_no_more_than_a_caption_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting:
        def segment(self, text: str) -> list[str]:
            assert 0 < len(text) <= 5_000
            return [text]

    monkeypatch.setattr(docci, "_segmenter", Counting)
    for unit in ("A dog. ", "图", "a b ", " ", "\n"):
        sentences(unit * 9_000)


def test_text_that_pysbd_fails_on_is_cut_nonetheless(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def segment(self, text: str) -> list[str]:
            raise IndexError(text)

    monkeypatch.setattr(docci, "_segmenter", Broken)
    assert sentences("A dog. It sleeps! Why? ") == ("A dog.", "It sleeps!", "Why?")


def test_pysbd_is_imported_where_warnings_are_errors(tmp_path: Path) -> None:
    """Python tells of the invalid escapes in its sources when it compiles them, hence the empty cache."""
    code = "from pgbench.metrics.docci import sentences; print(sentences('A dog. It sleeps.'))"
    fresh = [sys.executable, "-W", "error", "-X", f"pycache_prefix={tmp_path}", "-c", code]
    done = subprocess.run(fresh, capture_output=True, text=True, timeout=90, check=False)
    assert (done.stdout.strip(), done.stderr) == ("('A dog.', 'It sleeps.')", "")


# --- scores


@given(st.lists(st.tuples(CAPTIONS, CAPTIONS.filter(str.strip)), min_size=1, max_size=5))
def test_overlap_equals_sacrebleu_to_the_digit(pairs: list[tuple[str, str]]) -> None:
    answers, references = zip(*pairs, strict=True)
    values = {}
    for metric in (docci.BLEU, docci.CHRF):
        sums = ClusterSums()
        for answer, known in pairs:
            sums.add("", metric.stat([(Sample("1", (), "", known), answer)]))
        values[metric.name] = metric.reduce(sums.total())
    by_library = sacrebleu.corpus_bleu(list(answers), [list(references)]).score / 100
    assert values["bleu"] == min(1.0, by_library)
    assert values["chrf"] == sacrebleu.corpus_chrf(list(answers), [list(references)]).score / 100


def test_the_sources_say_sacrebleus_own_signatures() -> None:
    for name, used in (("bleu", sacrebleu.BLEU()), ("chrf", sacrebleu.CHRF())):
        used.corpus_score(["a b"], [["a c"]])
        signature = used.get_signature().format().rsplit("|version:", 1)[0]
        source = next(one.source for one in METRICS if one.name == name)
        assert source.endswith(signature)
        assert "pgbench's own choice" in source


def test_the_references_reach_the_ceiling() -> None:
    answers = [TASK.gold(Sample("1", (), "", text)) for text in TEXTS]
    assert sacrebleu.corpus_bleu(answers, [TEXTS]).score == pytest.approx(100)
    assert sacrebleu.corpus_chrf(answers, [TEXTS]).score == 100
    found = scores(TEXTS, answers)
    assert (found["bleu"].value, found["chrf"].value) == (1.0, 1.0)
    assert found["bleu"].interval == found["chrf"].interval == "wilson"
    assert found["chars"].value == sum(len(text.strip()) for text in TEXTS) / 3
    assert found["words"].value == 53 / 3  # U+2028 is white space
    assert found["sentences"].value == sum(len(sentences(text)) for text in TEXTS) / 3
    assert not any(one.invalid for one in found.values())


@pytest.mark.parametrize(("answer", "invalid", "failed"), [("", 3, 0), (" \n", 3, 0), (None, 0, 3)])
def test_nothing_said_is_the_floor(answer: str | None, invalid: int, failed: int) -> None:
    for metric, found in zip(METRICS, scores(TEXTS, [answer] * 3).values(), strict=True):
        assert (found.value, found.n, found.invalid, found.failed) == (metric.floor, 3, invalid, failed)


def test_a_failed_sample_is_an_empty_caption() -> None:
    failed, empty = scores(TEXTS, [TEXTS[0], "A dog.", None]), scores(TEXTS, [TEXTS[0], "A dog.", ""])
    for name, found in failed.items():
        assert (found.value, found.low, found.high) == (empty[name].value, empty[name].low, empty[name].high)
        assert found.value


def test_lengths_are_numbers_and_neither_good_nor_bad() -> None:
    kinds = {one.name: (one.number, one.direction, one.primary) for one in METRICS}
    assert kinds == {
        "chrf": (False, "up", True),
        "bleu": (False, "up", False),
        "chars": (True, None, False),
        "sentences": (True, None, False),
        "words": (True, None, False),
    }
