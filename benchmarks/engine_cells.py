"""What engine.py runs: checkpoints, pictures with questions, and a run of them by pgbench's own runner."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from pgbench.batch import Cell
from pgbench.demo import signs
from pgbench.profiles import SIGNS
from pgbench.registry import load_task
from pgbench.sources.files import digest
from pgbench.specs import expand
from pgbench.types import Dataset, DataSource, Dtype, Image, ModelRequest, Quant, Sample, Sweep, Task

WIDE_PX, WIDE_PATCH = 448, 28  # 256 image tokens
PHOTOGRAPH = (640, 480)  # px, of the pictures that a wide checkpoint is shown
LEVELS: dict[str, tuple[Dtype, Quant]] = {
    "float32": ("float32", "none"),
    "bfloat16": ("bfloat16", "none"),
    "8bit": ("bfloat16", "8bit"),
    "4bit": ("bfloat16", "4bit"),
}
CHECKPOINTS = (*SIGNS, *(f"{name}-{WIDE_PX}" for name in SIGNS))
_SEED = 7
_WHOSE = ("the sign", "the sign in the picture", "the sign on the left", "that one sign", "the painted sign")


@dataclass(frozen=True, slots=True)
class Asked:
    """One row: which checkpoint at which level, and how many questions about how many pictures."""

    checkpoint: str  # of CHECKPOINTS
    level: str  # of LEVELS
    questions: int  # an image
    samples: int
    batch: int = 32
    max_new_tokens: int = 32
    device: str = "cpu"
    threads: int = 1

    @property
    def wide(self) -> bool:
        return self.checkpoint not in SIGNS

    @property
    def name(self) -> str:
        return f"{self.checkpoint}, {self.level}, {self.questions} an image"

    def model(self, folder: Path) -> ModelRequest:
        dtype, quant = LEVELS[self.level]
        threads = self.threads if self.device == "cpu" else None
        return ModelRequest(model=str(folder), dtype=dtype, quant=quant, device=self.device, threads=threads)


def folder_of(checkpoint: str, work: Path) -> Path:
    """A shipped checkpoint's folder, or one made of it: its text model behind a vision tower with random
    patches and places at 448 px, so that answers are words that end."""
    name = checkpoint.removesuffix(f"-{WIDE_PX}")
    shipped = Path(str(files("pgbench") / "demo" / "checkpoints" / name))
    return shipped if name == checkpoint else widened(shipped, work / checkpoint)


def widened(shipped: Path, folder: Path) -> Path:
    """The same widths at 448 px with patches of 28 px."""
    if folder.exists():
        return folder
    import torch
    import transformers
    from transformers import AutoConfig, AutoProcessor, PaliGemmaForConditionalGeneration

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    config = AutoConfig.from_pretrained(shipped)
    config.vision_config.image_size, config.vision_config.patch_size = WIDE_PX, WIDE_PATCH
    config.text_config.num_image_tokens = tokens = (WIDE_PX // WIDE_PATCH) ** 2
    torch.manual_seed(_SEED)
    model = PaliGemmaForConditionalGeneration(config)
    trained = PaliGemmaForConditionalGeneration.from_pretrained(shipped, dtype=torch.float32).state_dict()
    fresh = model.state_dict()
    model.load_state_dict(
        {name: part if part.shape == fresh[name].shape else fresh[name] for name, part in trained.items()}
    )
    processor = AutoProcessor.from_pretrained(shipped, backend="pil")
    processor.image_processor.size = {"height": WIDE_PX, "width": WIDE_PX}
    processor.image_processor.image_seq_length = processor.image_seq_length = tokens
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def samples_of(asked: Asked) -> tuple[Sample, ...]:
    """Drawn signs with so many questions each, of unequal length; PPM files need no decoding."""
    images = -(-asked.samples // asked.questions)
    found = [sample for number in range(images) for sample in _about(number, asked)]
    return tuple(found[: asked.samples])


def _about(number: int, asked: Asked) -> list[Sample]:
    scene = signs.scene("train", number)
    data = _photograph(signs.draw(scene)) if asked.wide else signs.draw(scene)
    image = Image(f"{scene.image_id}.ppm", functools.partial(bytes, data))
    return [
        Sample(
            id=f"{scene.image_id}-{place:02}",
            images=(image,),
            question=_question(place + number),
            target=(scene.colour if place % 2 else scene.character,) * 10,
            cluster=scene.image_id,
        )
        for place in range(asked.questions)
    ]


def _question(place: int) -> str:
    kind = ("text", "colour")[place % 2]
    return signs.QUESTIONS[kind][place // 2 % 3].replace("the sign", _WHOSE[place // 6 % 5])


def _photograph(data: bytes) -> bytes:
    """A drawing at the size of a photograph."""
    import io

    from PIL import Image as Pictures

    file = io.BytesIO()
    Pictures.open(io.BytesIO(data)).resize(PHOTOGRAPH, Pictures.Resampling.BICUBIC).save(file, "PPM")
    return file.getvalue()


def cell_of(asked: Asked, folder: Path, samples: Sequence[Sample]) -> Cell:
    """The samples as a cell of TextVQA, its checkpoint found and nothing loaded."""
    from pgbench.backends.paligemma import engine

    dataset = Dataset(samples=samples, digest=digest(samples), id="benchmark", demo=True)
    task: Task = replace(load_task("textvqa"), max_new_tokens=asked.max_new_tokens)
    found = engine(asked.model(folder))
    source = DataSource("demo", dataset.id)
    sweep = Sweep(((task, "default", "val", source),), (found.checkpoint,), batch=asked.batch)
    return Cell(expand(sweep)[0], task, "0" * 64, dataset, found)


def card_of(asked: Asked, folder: Path) -> tuple[Any, Any]:
    """Model and processor as the model card loads them, in the same arithmetic: (model, processor)."""
    import torch
    from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

    from pgbench.backends.paligemma import quantizers

    dtype, quant = LEVELS[asked.level]
    device = torch.device(asked.device)
    model = PaliGemmaForConditionalGeneration.from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        quantization_config=quantizers.config(quant, "all"),
        device_map={"": device},
    ).eval()
    quantizers.cpu_workarounds(model, device)  # the packed 4-bit path refuses some widths
    return model, AutoProcessor.from_pretrained(folder, backend="pil")
