"""What of a checkpoint and its stack can move an answer: the name that a request and its answer go by.

Whatever is not listed here as harmless counts, so that a field or a library added later does too.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from pgbench.keys import bytes_key, json_key

# The id and the kind of a checkpoint decide the prompt alone, which the key holds as tokens; the content is
# named by the revision. The stack says which attention and cache there are, asked for or not.
_HARMLESS_OF_CHECKPOINT = frozenset({"id", "profile", "demo", "attention", "cache"})
# The first two count in part, below; what the doctor found of a stack does not change it, nor do the figures
# by which its kernels were chosen.
_HARMLESS_OF_STACK = frozenset({"versions", "threads", "weight_bytes", "doctor", "tried"})
# pgbench's own code counts by its hash; the task decides prompts and scores; the last two libraries score.
_HARMLESS_VERSIONS = frozenset({"python", "pgbench", "task", "pysbd", "sacrebleu"})


def answering(checkpoint: Mapping[str, Any], stack: Mapping[str, Any]) -> str:
    """sha256 of all of a Checkpoint and a Stack, both as plain mappings, that can move an answer."""
    return json_key(
        {
            "checkpoint": _without(checkpoint, _HARMLESS_OF_CHECKPOINT),
            "stack": _without(stack, _HARMLESS_OF_STACK),
            "versions": _without(stack["versions"], _HARMLESS_VERSIONS),
            # the order in which a CPU adds depends on how many threads share the sum
            "threads": stack["threads"] if stack["device"] == "cpu" else 0,
        }
    )


def way_key(answerer: str, decoding: Mapping[str, object], rule: str) -> str:
    """sha256 of all that can move an answer beside its prompt and images; the same for most of a run.

    `answerer`: of `answering`, and whatever else a backend knows to matter; `rule`: how images become pixels.
    """
    return json_key({"answerer": answerer, "rule": rule, "decoding": dict(decoding)})


def request_key(way: str, ids: Sequence[int], image: str) -> str:
    """sha256 of all that can move one answer.

    `way`: of `way_key`; `ids`: the tokens of the prompt; `image`: hash of the encoded images, or "".
    """
    return bytes_key([f"{way} {image} ".encode(), array("q", ids).tobytes()])


def _without(parts: Mapping[str, Any], harmless: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in parts.items() if name not in harmless}
