"""Kinds of checkpoint, read off their names, and the names of the released ones.

pt: pre-trained only; mix: tuned on a mixture of tasks; ft: tuned on one task; chat: answers a chat
template. The kind decides how a task asks (`Task.prompt` gets the profile).
Names: the model cards and the Hugging Face blogs on PaliGemma, PaliGemma 2 and PaliGemma 2 mix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pgbench.types import Family, Kind, Profile, Style

# Trained on drawings: on signs, for the tests and a first run; on the world, for the demo.
SIGNS = ("tiny-gemma", "tiny-gemma2")
WORLD = ("tiny-mix-224", "tiny-mix-448", "tiny2-mix-224")
SHIPPED = (*SIGNS, *WORLD)
DEFAULT = "tiny-gemma2"
DRAWN = ("signs", "world")  # drawings, as --data-id names them for the demo source
# Those that a shipped checkpoint was taught, where TextVQA would show it others unasked.
DRAWINGS: Mapping[str, str] = dict.fromkeys(WORLD, "world")

EXAMPLE = "google/paligemma2-3b-mix-448"  # where a message or a page names a real checkpoint

RELEASED = (
    *(f"google/paligemma-3b-pt-{px}" for px in (224, 448, 896)),
    *(f"google/paligemma-3b-mix-{px}" for px in (224, 448)),
    *(f"google/paligemma-3b-ft-textvqa-{px}" for px in (224, 896)),
    *(f"google/paligemma-3b-ft-vqav2-{px}" for px in (224, 448)),
    *(f"google/paligemma-3b-ft-gqa-{px}" for px in (224, 448)),
    *(f"google/paligemma-3b-ft-science-qa-{px}" for px in (224, 448)),
    *(f"google/paligemma2-{size}-pt-{px}" for size in ("3b", "10b", "28b") for px in (224, 448, 896)),
    *(f"google/paligemma2-{size}-mix-{px}" for size in ("3b", "10b", "28b") for px in (224, 448)),
    *(f"google/paligemma2-{size}-ft-docci-448" for size in ("3b", "10b")),
    "BUAADreamer/PaliGemma-3B-Chat-v0.2",
)

_TUNED_ON = {"science-qa": "scienceqa"}


def profile_of(name: str, family: Family, style: Style = "paligemma") -> Profile:
    """The profile that a checkpoint's name says; a name that says nothing is taken as somebody's fine-tune.

    >>> profile_of("google/paligemma-3b-ft-science-qa-448", "paligemma").tuned_on
    'scienceqa'
    >>> profile_of("google/paligemma2-3b-mix-224", "paligemma2").kind
    'mix'
    """
    base = name.rsplit("/", 1)[-1].lower()
    kind: Kind = "ft"
    tuned_on = None
    if re.search(r"(^|[-_])chat([-_]|$)", base):
        kind, style = "chat", "official"  # PaliGemma's own prefixes mean nothing to it
    elif re.search(r"(^|[-_])pt([-_]|$)", base):
        kind = "pt"
    elif re.search(r"(^|[-_])mix([-_]|$)", base):
        kind = "mix"
    elif found := re.search(r"[-_]ft[-_](.+?)[-_](224|448|896)$", base):
        tuned_on = _TUNED_ON.get(found[1], found[1])
    return Profile(kind=kind, family=family, tuned_on=tuned_on, style=style)
