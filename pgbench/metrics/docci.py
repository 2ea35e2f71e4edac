"""DOCCI captions: their length, and what text they share with the one reference.

Nothing here is the benchmark's own: google/docci@c190366 holds no scoring code, and PaliGemma 2
(arXiv:2412.03555, table 6) lets people rate (NES), with #char and #sent beside it. BLEU and chrF are
pgbench's choice, by sacrebleu with its own defaults. They count shared text, not truth: a true detail that
the annotator left out lowers them, a false one may not.

Primary is chrF, not BLEU: it needs no tokenizer and weighs recall over precision (beta 2), so that a short
caption loses by what it leaves out and not, as under BLEU's brevity penalty, nearly everything. Long captions
gain by it: read it beside the length. Scores are of the whole corpus, never a mean over captions.
An empty answer is invalid. It and a failed sample are a caption of no characters, and stay in n.
"""

from __future__ import annotations

import functools
import itertools
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pgbench.metrics import mean
from pgbench.types import Metric, Sample, Sums

if TYPE_CHECKING:
    from sacrebleu.metrics import bleu as sacre

Unit = Sequence[tuple[Sample, str]]

# The signatures that sacrebleu itself prints, less its version; a test compares them.
BLEU_SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp"
CHRF_SIGNATURE = "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no"
WORD_ORDER, CHAR_ORDER, BETA = 4, 6, 2  # sacrebleu's defaults for BLEU and chrF
_OWN = "pgbench's own choice (DOCCI has no scorer)"
_LENGTHS = "as in PaliGemma 2, arXiv:2412.03555, table 6"
_LONGEST = 5_000  # characters that pysbd gets at once; its time grows with the square


def characters(text: str) -> int:
    """Characters (code points) of a caption without white space at its ends: #char.

    >>> characters(" A dog. ")
    6
    """
    return len(text.strip())


def words(text: str) -> int:
    """Words of a caption, cut at white space.

    >>> words("A dog,  sleeping.")
    3
    """
    return len(text.split())


def sentences(text: str) -> tuple[str, ...]:
    """A caption's sentences by pysbd 0.3.4 (English, clean=False), in order, stripped, none empty.

    Nothing but white space at their ends is lost: pysbd leaves out sentences that it cannot find again
    after its own substitutions (text with its marks or odd punctuation), so only where it cuts is taken
    from it. What it left out stands as a sentence of its own if it has a letter or digit, and goes to its
    neighbour otherwise. Never raises: text that pysbd fails on is cut after ".", "!" and "?" instead.

    >>> sentences("It stands by No. 5.  Mr. Smith waves!")
    ('It stands by No. 5.', 'Mr. Smith waves!')
    """
    return tuple(one for part in _parts(text) for one in _cut(part, _segments(part)))


def _parts(text: str) -> list[str]:
    """The text itself; one longer than any caption is cut, after a full stop or line if it has one."""
    parts = []
    while len(text) > _LONGEST:
        ends = (max(text.rfind(mark, 0, _LONGEST) + 1 for mark in marks) for marks in ((". ", "\n"), (" ",)))
        end = next(filter(None, ends), _LONGEST)
        parts.append(text[:end])
        text = text[end:]
    return [*parts, text]


def _cut(text: str, segments: list[str]) -> list[str]:
    """The text cut where the segments lie in it."""
    cuts, end = [0], 0
    for segment in map(str.strip, segments):
        start = text.find(segment, end)
        if start < 0 or not segment:
            continue
        if any(map(str.isalnum, text[end:start])):
            cuts.append(start)
        end = start + len(segment)
        cuts.append(end)
    if not any(map(str.isalnum, text[end:])):
        cuts = cuts[:-1] if len(cuts) > 1 else cuts
    cuts.append(len(text))
    pieces = (text[a:b].strip() for a, b in itertools.pairwise(cuts))
    return [piece for piece in pieces if piece]


def _segments(text: str) -> list[str]:
    try:
        found: list[str] = _segmenter().segment(text)
    except (re.error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return re.split(r"(?<=[.!?])\s+", text)
    return found


@functools.cache
def _segmenter() -> Any:
    with warnings.catch_warnings():
        # pysbd's sources hold invalid escapes, of which Python tells when it compiles them
        warnings.simplefilter("ignore")
        import pysbd  # type: ignore[import-untyped]

        return pysbd.Segmenter(language="en", clean=False)


def bleu_sums(prediction: str, reference: str) -> Sums:
    """BLEU's statistics of one caption, to be added up: lengths in tokens, n-grams and those that match."""
    found = _bleu().corpus_score([prediction], [[reference]])
    return {
        "sys_len": float(found.sys_len),
        "ref_len": float(found.ref_len),
        **{f"correct{n}": float(count) for n, count in enumerate(found.counts, 1)},
        **{f"total{n}": float(count) for n, count in enumerate(found.totals, 1)},
    }


def bleu(sums: Sums) -> float:
    """Corpus BLEU as a fraction, equal to `sacrebleu.corpus_bleu(...).score / 100`.

    Only where that rounds to 1.0000000000000004, for perfect captions, it is 1.
    """
    orders = range(1, WORD_ORDER + 1)
    found = _bleu().compute_bleu(
        correct=[round(sums[f"correct{n}"]) for n in orders],
        total=[round(sums[f"total{n}"]) for n in orders],
        sys_len=round(sums["sys_len"]),
        ref_len=round(sums["ref_len"]),
        smooth_method="exp",  # what corpus_bleu takes; compute_bleu by itself does not smooth
    )
    return min(1.0, found.score / 100)


@functools.cache
def _bleu() -> sacre.BLEU:
    from sacrebleu.metrics import bleu as sacre

    return sacre.BLEU()


def chrf_sums(prediction: str, reference: str) -> Sums:
    """chrF's statistics of one caption, to be added up: for each order n-grams said, known and shared."""
    from sacrebleu.metrics.helpers import extract_all_char_ngrams

    sums = {}
    pairs = zip(
        extract_all_char_ngrams(prediction, CHAR_ORDER),
        extract_all_char_ngrams(reference, CHAR_ORDER),
        strict=True,
    )
    for n, (said, known) in enumerate(pairs, 1):
        # n-grams longer than the reference cannot match: sacrebleu leaves them out
        sums[f"hyp{n}"] = float(said.total() if known else 0)
        sums[f"ref{n}"] = float(known.total())
        sums[f"match{n}"] = float(
            sum(min(count, known[gram]) for gram, count in said.items() if gram in known)
        )
    return sums


def chrf(sums: Sums) -> float:
    """Corpus chrF as a fraction, equal to `sacrebleu.corpus_chrf(...).score / 100`.

    Precision and recall are averaged over the orders that both sides have, then combined. sacrebleu offers
    this step as a private method alone, so it stands here, in the same order of operations.
    """
    precision = recall = 0.0
    orders = 0
    for n in range(1, CHAR_ORDER + 1):
        said, known, shared = (sums[f"{name}{n}"] for name in ("hyp", "ref", "match"))
        if said and known:
            precision += shared / said
            recall += shared / known
            orders += 1
    if not precision + recall:
        return 0.0
    precision, recall = precision / orders, recall / orders
    score = (1 + BETA**2) * precision * recall
    score /= BETA**2 * precision + recall
    return 100 * score / 100  # by way of sacrebleu's percent, to the last bit


def _overlap(rule: Callable[[str, str], Sums], unit: Unit) -> Sums:
    ((sample, answer),) = unit
    reference = sample.target if isinstance(sample.target, str) else ""
    return {**rule(answer.strip(), reference), "invalid": float(not answer.strip())}


def _nothing_said(rule: Callable[[str, str], Sums], unit: Sequence[Sample]) -> Sums:
    """A failed sample: nothing shared, and its reference counts."""
    return {**_overlap(rule, [(sample, "") for sample in unit]), "invalid": 0.0}


def _length(rule: Callable[[str], int], unit: Unit) -> Sums:
    ((_, answer),) = unit
    return {"sum": float(rule(answer)), "n": 1.0, "invalid": float(not answer.strip())}


def _count(text: str) -> int:
    return len(sentences(text))


CHRF = Metric(
    name="chrf",
    stat=functools.partial(_overlap, chrf_sums),
    reduce=chrf,
    source=f"{_OWN}: corpus chrF2 of sacrebleu, {CHRF_SIGNATURE}",
    failed=functools.partial(_nothing_said, chrf_sums),
    primary=True,
)
BLEU = Metric(
    name="bleu",
    stat=functools.partial(_overlap, bleu_sums),
    reduce=bleu,
    source=f"{_OWN}: corpus BLEU of sacrebleu, {BLEU_SIGNATURE}",
    failed=functools.partial(_nothing_said, bleu_sums),
)
_length_metric = functools.partial(Metric, reduce=mean, number=True, direction=None)
CHARS = _length_metric(
    name="chars",
    stat=functools.partial(_length, characters),
    source=f"#char: mean number of characters, {_LENGTHS}",
)
SENTENCES = _length_metric(
    name="sentences",
    stat=functools.partial(_length, _count),
    source=f"#sent: mean number of sentences, {_LENGTHS}, which names no splitter; here pysbd 0.3.4",
)
WORDS = _length_metric(
    name="words",
    stat=functools.partial(_length, words),
    source="pgbench's own: mean number of words, cut at white space (references: 136, arXiv:2404.19753)",
)
METRICS = (CHRF, BLEU, CHARS, SENTENCES, WORDS)
