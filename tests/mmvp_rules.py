"""MMVP's matching rule as it is written, without regard to speed."""

from __future__ import annotations

import re
from collections.abc import Sequence


def transcribed(answer: str, options: Sequence[str], correct: str) -> tuple[bool, bool, bool]:
    """The rule as it is written, option by option: (strict, lenient, invalid)."""

    def tidy(text: str, article: bool = True) -> str:
        text = re.sub(r"\s+", " ", text.lower()).strip()
        while text and text[-1] in ".,!?;: ":
            text = text[:-1]
        for word in ("a ", "an ", "the "):
            if article and text.startswith(word):
                return text[len(word) :]
        return text

    def inside(part: str, whole: str) -> bool:
        spots = [i for i in range(len(whole)) if whole.startswith(part, i)] if part else []
        padded = f" {whole} "
        touched = [re.match(r"\w", c) for i in spots for c in (padded[i], padded[i + len(part) + 1])]
        pairs = list(zip(touched[::2], touched[1::2], strict=True))
        return any(before is None and after is None for before, after in pairs)

    text = tidy(answer, article=False)
    texts = dict(zip("ab", map(tidy, options), strict=True))
    exact = {k for k in "ab" if text in (k, f"({k})", f"{k})") or (texts[k] and texts[k] == tidy(answer))}
    if exact:
        return correct in exact, correct in exact, False
    for k in "ab":
        if text.startswith((f"({k})", f"{k})")):
            return False, k == correct, False
    here = [k for k in "ab" if inside(texts[k], text)]
    left = [
        k
        for k in here
        if not any(texts[j] != texts[k] and inside(texts[k], texts[j]) for j in here if j != k)
    ]
    return False, left == [correct], len(left) != 1
