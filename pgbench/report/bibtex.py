"""BibTeX of what records stand on: the tasks' own entries, the models' and the quantizers'. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pgbench.records import RunRecord
from pgbench.types import Family, Quant, Task

_KEY = re.compile(
    r"@(?!comment|string|preamble)\w+\s*\{\s*([A-Za-z0-9][A-Za-z0-9:._+/-]*)\s*,", re.IGNORECASE
)
_PALIGEMMA = r"""@article{beyer2024paligemma,
  title   = {{PaliGemma}: A versatile {3B} {VLM} for transfer},
  author  = {Beyer, Lucas and Steiner, Andreas and Pinto, Andr{\'e} Susano and Kolesnikov, Alexander and
             Wang, Xiao and others},
  journal = {arXiv preprint arXiv:2407.07726},
  year    = {2024}
}"""
_PALIGEMMA2 = r"""@article{steiner2024paligemma2,
  title   = {{PaliGemma} 2: A Family of Versatile {VLMs} for Transfer},
  author  = {Steiner, Andreas and Pinto, Andr{\'e} Susano and Tschannen, Michael and Keysers, Daniel and
             Wang, Xiao and others},
  journal = {arXiv preprint arXiv:2412.03555},
  year    = {2024}
}"""
_INT8 = r"""@inproceedings{dettmers2022llmint8,
  title     = {{LLM.int8()}: 8-bit Matrix Multiplication for Transformers at Scale},
  author    = {Dettmers, Tim and Lewis, Mike and Belkada, Younes and Zettlemoyer, Luke},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2022},
  note      = {arXiv:2208.07339}
}"""
_QLORA = r"""@inproceedings{dettmers2023qlora,
  title     = {{QLoRA}: Efficient Finetuning of Quantized {LLMs}},
  author    = {Dettmers, Tim and Pagnoni, Artidoro and Holtzman, Ari and Zettlemoyer, Luke},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2023},
  note      = {arXiv:2305.14314}
}"""
OF_FAMILY: Mapping[Family, str] = {"paligemma": _PALIGEMMA, "paligemma2": _PALIGEMMA2}
OF_LEVEL: Mapping[Quant, str] = {"8bit": _INT8, "4bit": _QLORA, "fp4": _QLORA}


def entries(records: Iterable[RunRecord], tasks: Mapping[str, Task]) -> tuple[str, ...]:
    """Each entry once: models, quantization, then tasks in the order of the records."""
    found = list(records)
    models = [text for record in found for text in of_model(record)]
    cited = [text for record in found for text in of_task(tasks.get(record.spec.task))]
    return tuple(dict.fromkeys([*models, *cited]))


def of_model(record: RunRecord) -> tuple[str, ...]:
    """The entries of a record's model and of its number format. Demo checkpoints are nobody's model."""
    point = record.spec.checkpoint
    if point.backend != "paligemma" or point.demo:
        family: tuple[str, ...] = ()
    else:
        family = (OF_FAMILY[point.profile.family],)
    level = OF_LEVEL.get(point.quant) if bitsandbytes(record) else None
    return (*family, *([level] if level else []))


def of_task(task: Task | None) -> tuple[str, ...]:
    """A task's own BibTeX, as its author wrote it."""
    text = task.cite.strip() if task else ""
    return (text,) if text else ()


def keys(texts: Iterable[str]) -> tuple[str, ...]:
    r"""The keys of entries, in order.

    >>> keys(["@article{one2024,\n title = {x}}", "no entry"])
    ('one2024',)
    """
    return tuple(dict.fromkeys(key for text in texts for key in _KEY.findall(text)))


def bitsandbytes(record: RunRecord) -> bool:
    """Whether the proof in a record names layers of bitsandbytes."""
    proof = record.stack.quantization
    return proof is not None and any(group.cls.startswith("bitsandbytes.") for group in proof.replaced)
