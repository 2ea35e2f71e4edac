"""The methods as plain text, Markdown or LaTeX. Pure; names in them obey nothing in any of the three."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from pgbench.report.formats import markdown, tex
from pgbench.report.formats.words import shown, uncommanded
from pgbench.report.methods import Methods, Said, Topic

_ANY = 10**6  # characters: nothing is left out
_WORD = re.compile(r"\S{20,}")  # longer ones may break, after a separator or where a run of letters is long
_PIECE = re.compile(r"[^/_.:@,;+-]{1,12}[/_.:@,;+-]*|[/_.:@,;+-]{1,12}")


def render(methods: Methods, form: str = "plain") -> str:
    """All of it as text with a final newline, the BibTeX after the paragraphs.

    `form`: of what it will stand in, latex or markdown; anything else gets plain text.
    """
    return _FORMS.get(form, plain)(methods)


def plain(methods: Methods) -> str:
    """A paragraph for each topic; keys of BibTeX entries in brackets."""
    paragraphs = [
        f"{topic.title}. "
        + " ".join(_sentence(_clean(said.text), _bracketed(said)) for said in topic.sentences)
        for topic in methods.topics
    ]
    command = [f"Command: {_clean(methods.command)}"] if methods.command else []
    return _blocks([*paragraphs, *command, *map(_entry, methods.bibtex)])


def of_markdown(methods: Methods) -> str:
    """The same with bold heads; citations as pandoc reads them, the BibTeX in a block of code."""
    paragraphs = [
        f"**{topic.title}.** "
        + " ".join(_sentence(markdown.escaped(said.text, _ANY), _pandoc(said)) for said in topic.sentences)
        for topic in methods.topics
    ]
    command = [_fenced("sh", _clean(methods.command))] if methods.command else []
    entries = [_fenced("bibtex", "\n\n".join(map(_entry, methods.bibtex)))] if methods.bibtex else []
    return _blocks([*paragraphs, *command, *entries])


def of_latex(methods: Methods) -> str:
    """Paragraphs that compile as they are; the BibTeX, for a file of its own, stands behind comment signs."""
    paragraphs = [_latex_topic(topic) for topic in methods.topics]
    if methods.command:
        paragraphs.append(
            rf"\paragraph{{Command.}} {{\raggedright\texttt{{{_broken(methods.command)}}}\par}}"
        )
    lines = [line for entry in methods.bibtex for line in ["", *_entry(entry).split("\n")]]
    comments = ["% BibTeX of what is cited above:", *(f"% {line}".rstrip() for line in lines)]
    body = [r"\begingroup\sloppy", *paragraphs, r"\par\endgroup"]
    return _blocks([*body, "\n".join(comments)] if lines else body)


def _latex_topic(topic: Topic) -> str:
    said = [
        _sentence(_broken(one.text), rf"~\cite{{{','.join(one.cites)}}}" if one.cites else "")
        for one in topic.sentences
    ]
    return rf"\paragraph{{{tex.escaped(topic.title)}.}} " + "\n".join(said)


def _broken(text: str) -> str:
    """Escaped, with places where a line may break in long names."""
    found, end = [], 0
    for word in _WORD.finditer(text):
        pieces = [tex.escaped(piece, _ANY) for piece in _PIECE.findall(word[0])]
        found += [tex.escaped(text[end : word.start()], _ANY), r"\allowbreak{}".join(pieces)]
        end = word.end()
    return "".join([*found, tex.escaped(text[end:], _ANY)])


def _sentence(text: str, cited: str) -> str:
    """A capital letter would change a name that a sentence begins with, so that there is none."""
    return f"{text.removesuffix('.')}{cited}."


def _bracketed(said: Said) -> str:
    return f" [{', '.join(said.cites)}]" if said.cites else ""


def _pandoc(said: Said) -> str:
    return f" [{'; '.join(f'@{key}' for key in said.cites)}]" if said.cites else ""


def _clean(text: str) -> str:
    return uncommanded(shown(text, _ANY))


def _entry(text: str) -> str:
    """BibTeX line by line: an entry is a task author's text."""
    return "\n".join(_clean(line) for line in text.split("\n"))


def _fenced(language: str, text: str) -> str:
    """A block of code whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _blocks(parts: Sequence[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


_FORMS: Mapping[str, Callable[[Methods], str]] = MappingProxyType(
    {"markdown": of_markdown, "latex": of_latex}
)
