"""The rules of MMMU and CMMMU written down a second time, plainly, for tests to compare with."""

from __future__ import annotations

import math
import re

INDICATORS = ["could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result "]
BLANK_INDICATORS = "是 为 所以 等于 方案 选择 正确答案 因此 最后 答案 结果".split()
JUDGE_INDICATORS = "是 为 所以 判断 陈述 说法 表达 答案 结果".split()
POSITIVE = "正确 对 准确 肯定 对的".split()
NEGATIVE = "不对 错误 不正确 不准确 不合适 否定 错的 错".split()
AMBIGUOUS = "对错 是否正确 否正确 或者 是否 正确性 对不".split()


def padded(text: str) -> str:
    text = text.strip(",").strip(".").strip("!").strip("?").strip(";").strip(":").strip("'")
    return " " + text + " "


def mmmu_choice(text: str, options: list[str]) -> str | None:
    text, names = padded(text), "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(options)]
    rounds = [
        [(text.rfind("(" + name + ")"), name) for name in names],
        [(text.rfind(" " + name + " "), name) for name in names],
    ]
    if len(text.split()) > 5:
        rounds.append([(text.lower().rfind(o.lower()), name) for name, o in zip(names, options, strict=True)])
    for found in rounds:
        best = None
        for place, name in found:
            if place >= 0 and (best is None or place > best[0]):
                best = (place, name)
        if best is not None:
            return best[1]
    return None


def tails(pieces: list[str], indicators: list[str], equation: bool) -> list[str]:
    kept = []
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        shortest = None
        for indicator in indicators + (["="] if last and equation else []):
            if piece.find(indicator) >= 0:
                tail = piece[piece.rfind(indicator) + len(indicator) :].strip()
                if not shortest or len(tail) < len(shortest):
                    shortest = tail
        if shortest and shortest not in [":", ",", ".", "!", "?", ";", "'"]:
            kept.append(shortest)
    return kept


def number_of(text: str) -> float | None:
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return None
    return round(value, 2) if math.isfinite(value) else value


def hit(said: list[str | float], wanted: list[str | float]) -> bool:
    for one in said:
        for gold in wanted:
            if isinstance(one, str) and isinstance(gold, str) and one.find(gold) >= 0:
                return True
            if isinstance(one, float) and isinstance(gold, float) and one == gold:
                return True
    return False


def mmmu_forms(text: str) -> list[str | float]:
    text = text.strip()
    value = number_of(text)
    if value is not None:
        return [value]
    text = text.lower()
    return [" " + text, text + " "] if len(text) == 1 else [text]


def mmmu_open(text: str, golds: list[str]) -> bool:
    text = text.strip().strip(".").lower()
    kept = tails(text.split("\n"), INDICATORS, True) or [text]
    found = list(kept)
    for one in kept:
        found += re.findall(r"-?\b\d{1,3}(?:,\d{3})+\b", one)
        found += re.findall(r"-?\d+(?:\.\d+)?[eE][+-]?\d+", one)
        found += re.findall(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])", one)
    said = [form for one in found for form in mmmu_forms(one)]
    return hit(said, [form for gold in golds for form in mmmu_forms(gold)])


def cmmmu_choice(text: str, options: list[str]) -> str | None:
    text = padded(text)
    by_name = dict(zip("ABCD", options, strict=True))
    counts = {name: text.count("(" + name + ")") for name in by_name}
    if not sum(counts.values()):
        counts = {name: text.count(name) for name in by_name}
    if not sum(counts.values()) and len(text.split()) >= 1:
        counts = {name: text.count(option) for name, option in by_name.items()}
    most = max(counts.values())
    return "".join(name for name in "ABCD" if counts[name] == most) if most else None


def cmmmu_pieces(text: str, indicators: list[str], equation: bool) -> list[str]:
    text = text.strip("。").strip()
    return tails(re.split("[。\n]", text), indicators, equation) or [text]


def cmmmu_judgement(text: str) -> str | None:
    balance = 0
    for piece in set(cmmmu_pieces(text, JUDGE_INDICATORS, False)):
        if any(word in piece for word in AMBIGUOUS):
            continue
        if any(word in piece for word in POSITIVE):
            balance += 1
        elif any(word in piece for word in NEGATIVE):
            balance -= 1
    return "对" if balance > 0 else "错" if balance < 0 else None


def cmmmu_forms(text: str, gold: str) -> list[str | float]:
    text = text.strip()
    value = number_of(text)
    if value is not None:
        return [value]
    if len(text) > len(gold) + 20:
        return []
    if len(re.findall("[A-Za-z]", text)) > len(re.findall("[A-Za-z]", gold)) + 2:
        return []
    return [text]


def cmmmu_blank(text: str, gold: str) -> bool:
    kept = cmmmu_pieces(text, BLANK_INDICATORS, True)
    found = list(kept)
    for one in kept:
        found += re.findall(r"-?\d{1,3}(?:，\d{3})+", one)
        found += re.findall(r"-?\d+(?:\.\d+)?[eE][+-]?\d+", one)
        found += re.findall(r"-?(?:\d+\.\d+|\.\d+|\d+)(?![eE][+-]?\d+)(?!，\d)", one)
    said = [form for one in found for form in cmmmu_forms(one, gold)]
    return hit(said, cmmmu_forms(gold, gold))
