"""POPE's evaluate.py, transcribed step by step from a description of its rules."""

from __future__ import annotations

from collections.abc import Sequence


def script(answers: Sequence[str], labels: Sequence[str]) -> dict[str, float | None]:
    """evaluate.py's rules, transcribed step by step."""
    said = []
    for answer in answers:
        text = answer if answer.find(".") == -1 else answer.split(".")[0]
        words = text.replace(",", "").split(" ")
        said.append(0 if "No" in words or "not" in words or "no" in words else 1)
    truth = [0 if label == "no" else 1 for label in labels]
    both = list(zip(said, truth, strict=True))
    tp, fp, tn, fn = (both.count(pair) for pair in ((1, 1), (1, 0), (0, 0), (0, 1)))
    p = tp / (tp + fp) if tp + fp else None
    r = tp / (tp + fn) if tp + fn else None
    return {
        "accuracy": (tp + tn) / len(both),
        "precision": p,
        "recall": r,
        "f1": 2 * p * r / (p + r) if p and r else None,
        "yes_ratio": said.count(1) / len(said),
    }
