"""docs/tasks.md: every task with what it asks, on what data, and how it scores, as Markdown. Pure.

What a task deviates in stands at the head of its file and of its metrics' files, and is taken from there.
Prompts are those that the tasks make of one made-up question, which carries what the shipped tasks read.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import get_args

from pgbench.errors import PgbenchError
from pgbench.types import Family, Kind, Metric, Profile, Sample, Style, Target, Task

INTRODUCTION = """\
# The tasks

Written by `pgbench tasks --markdown`; change the tasks, not this page.

Prompts are shown for one made-up question, "{question}", as a choice with the options {options}, as an open
question and as a statement to be judged, as far as a task has such questions. They are the prefix alone:
image tokens, `<bos>` and the newline are the processor's. Where kinds of checkpoint are not named, all are
asked alike: pt (pre-trained), mix, ft (tuned on the task) and chat, of PaliGemma and PaliGemma 2.
"""
QUESTION = "Is the car red?"
OPTIONS = ("yes", "no")
# What is asked for beside the question: CMMMU's type of question, MMVP's options as written. A task that
# reads another field gets an empty text; one that cannot do with that says so on the page.
FORMS = {
    "a choice": {"type": "选择", "options": "(a) yes (b) no"},
    "open": {"type": "填空", "options": "(a) yes (b) no"},
    "to be judged": {"type": "判断", "options": "(a) yes (b) no"},
}
TARGETS = ("A", "a", ("yes",) * 10)  # one of them is what a task takes for a reference
STYLES = {"paligemma": "Prompt", "official": "Prompt with `--prompt-style official`"}
_LABEL = re.compile(r"(?m)^(?=[A-Z][A-Za-z, ]{2,40}: |- )")  # a line that begins a point of its own


@dataclass(frozen=True, slots=True)
class Entry:
    """A task with the head of its file; or why it cannot be loaded."""

    name: str
    head: str
    task: Task | str


def page(entries: Sequence[Entry]) -> str:
    """The whole page, tasks in the order given."""
    introduction = INTRODUCTION.format(question=QUESTION, options=" and ".join(OPTIONS))
    links = " · ".join(f"[{entry.name}](#{entry.name})" for entry in entries)
    return "\n".join([introduction, links, *(_section(entry) for entry in entries)]) + "\n"


def _section(entry: Entry) -> str:
    task = entry.task
    if isinstance(task, str):
        return f"\n## {entry.name}\n\nCannot be loaded: {_text(task)}"
    parts = [f"\n## {task.name}", f"{_text(task.title)} (version {task.version}).", _prose(entry.head)]
    for style in get_args(Style):
        parts += [f"**{STYLES[style]}**", *_prompts(task, style)]
    parts += [_facts(task), _metrics(task.metrics), *_likelihood(task), *_notes(task)]
    if task.cite:
        parts.append(_block(task.cite, "bibtex"))
    return "\n\n".join(parts)


def sample(form: str) -> Sample:
    """The made-up question in one of its forms."""
    fields: Mapping[str, object] = defaultdict(str, FORMS[form])
    options = OPTIONS if form == "a choice" else ()
    return Sample("1", (), QUESTION, OPTIONS[0], options, context="A street in the rain.", fields=fields)


def _prompts(task: Task, style: Style) -> list[str]:
    """Each prompt once, with what it is for where that is not everything."""
    asked: dict[tuple[tuple[str, str], ...], list[tuple[str, str]]] = {}
    forms = _forms(task)
    for variant in task.variants:
        for form in forms:
            asked.setdefault(_by_profile(task, form, variant, style), []).append((variant, form))
    parts = []
    for prompts, cases in asked.items():
        where = [_some([v for v, _ in cases], task.variants, "variant"), _some([f for _, f in cases], forms)]
        for text, profiles in prompts:
            label = ", ".join(part for part in (*where, profiles) if part)
            parts.append(f"{label + ':' if label else ''}\n{_block(text)}".strip())
    return parts


def _forms(task: Task) -> list[str]:
    """The forms of question that the task can score; all where its metrics need more than they carry."""
    return [form for form in FORMS if any(_scored(task, form, target) for target in TARGETS)] or list(FORMS)


def _scored(task: Task, form: str, target: Target) -> bool:
    try:
        task.metrics[0].stat([(replace(sample(form), target=target), "")])
    except Exception:  # noqa: BLE001 - whatever a metric says of a sample that is none of its own
        return False
    return True


def _by_profile(task: Task, form: str, variant: str, style: Style) -> tuple[tuple[str, str], ...]:
    """(prompt, who is asked so) for all kinds of checkpoint; "" where all are."""
    found: dict[str, list[tuple[str, str]]] = {}
    for kind in get_args(Kind):
        for family in get_args(Family):
            profile = Profile(kind, family, task.name if kind == "ft" else None, style)
            found.setdefault(_asked(task, form, profile, variant), []).append((kind, family))
    return tuple((text, "" if len(found) == 1 else _profiles(who)) for text, who in found.items())


def _asked(task: Task, form: str, profile: Profile, variant: str) -> str:
    try:
        return task.prompt(sample(form), profile, variant)
    except PgbenchError as error:
        return f"(not asked: {error})"
    except Exception as error:  # noqa: BLE001 - a plugin's prompt may need what only its own samples have
        return f"(depends on the sample: {type(error).__name__})"


def _profiles(who: Sequence[tuple[str, str]]) -> str:
    names = []
    for kind in get_args(Kind):
        families = [family for one, family in who if one == kind]
        if families:
            names.append(kind if len(families) == len(get_args(Family)) else f"{kind} of {families[0]}")
    return ", ".join(names)


def _some(chosen: Sequence[str], among: Sequence[str] | Mapping[str, object], noun: str = "") -> str:
    """The chosen ones by name, or "" where they are all there are."""
    names = list(dict.fromkeys(chosen))
    return "" if len(names) == len(among) else f"{noun} {' or '.join(names)}".strip()


def _facts(task: Task) -> str:
    splits = [f"{name} ({f'{size:,}' if size else 'size not fixed'})" for name, size in task.splits.items()]
    antialias = "antialiased" if task.pixels.antialias else "not antialiased"
    rows = {
        "splits, first the default": ", ".join(splits),
        "sources, first the default": ", ".join(task.sources),
        "variants, first the default": ", ".join(task.variants) if len(task.variants) > 1 else "",
        "modes": ", ".join(task.modes) if len(task.modes) > 1 else "",
        "new tokens": str(task.max_new_tokens),
        "pixels in big_vision's configuration": f"{antialias}, text_len {task.pixels.text_len}",
        "test server": task.submission.server if task.submission else "",
        "`--official-seed`": "reproduces the script's own guesses" if task.draw else "",
        "licence of the data": task.licence,
    }
    return _table(["", ""], [[name, _text(value)] for name, value in rows.items() if value])


def _likelihood(task: Task) -> list[str]:
    """What mode likelihood scores, by the same made-up question."""
    asked = task.likelihood
    if asked is None:
        return []
    form = replace(sample(_forms(task)[0]), target="A picture of a car.")
    texts = asked.continuations(form, Profile("mix", "paligemma2"), task.variants[0])
    return [
        "**`--mode likelihood`** scores behind the prompt (protocol.md, Likelihoods):",
        _block("\n".join(texts)),
        _metrics(asked.metrics),
    ]


def _metrics(metrics: Sequence[Metric]) -> str:
    better = {"up": "higher", "down": "lower", None: "neither"}
    rows = [
        [
            f"`{one.name}`{' (primary)' if one.primary else ''}",
            f"{one.floor:g}" if one.number else f"{100 * one.floor:.4g} %",
            better[one.direction],
            _text(one.source),
        ]
        for one in metrics
    ]
    return _table(["metric", "floor", "better", "source"], rows)


def _notes(task: Task) -> list[str]:
    """What the files of the task's metrics say at their heads, each once."""
    modules = (inspect.getmodule(one) for metric in task.metrics for one in _functions(metric))
    heads = dict.fromkeys(inspect.getdoc(module) or "" for module in modules if module)
    return [_prose(head) for head in heads if head]


def _functions(metric: Metric) -> Iterator[object]:
    """The rules that a statistic is made of: the arguments of a partial, then the function itself."""
    stat: object = metric.stat
    while isinstance(stat, partial):
        yield from (one for one in stat.args if inspect.isfunction(one))
        stat = stat.func
    yield stat


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _block(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _prose(docstring: str) -> str:
    """A docstring as Markdown: its first line a sentence, its labelled points a paragraph each."""
    spaced = re.sub(r"\n{3,}", "\n\n", _LABEL.sub("\n", docstring.strip()))
    return "\n".join(_text(line) for line in spaced.strip().splitlines())


def _text(text: str) -> str:
    """Text outside code with what Markdown would take for HTML made plain."""
    parts = text.split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))
