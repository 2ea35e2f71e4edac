"""The doctor: a whole stack passes every probe, and each probe names the fault that it guards against.

Faults are put into transformers, the processor, the weights or the backend, never into a probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pgbench.records import Finding
from pgbench.types import Checkpoint, ModelRequest

FAMILIES = {"paligemma": "tiny-gemma", "paligemma2": "tiny-gemma2"}
Patients = Callable[..., Any]


def request(family: str, dtype: str = "float32", quant: str = "none", **more: Any) -> ModelRequest:
    asked: dict[str, Any] = {"dtype": dtype, "quant": quant, "device": "cpu", **more}
    return ModelRequest(model=FAMILIES[family], **asked)


def opened(asked: ModelRequest, samples: int = 4) -> Any:
    """A patient; Any, since tests look inside."""
    from pgbench.backends.paligemma import engine
    from pgbench.backends.paligemma.probes import again_of, folder_of
    from pgbench.backends.paligemma.probes_patient import Patient

    found = engine(asked)
    backend: Any = found.load()
    return Patient(found.checkpoint, backend, folder_of(backend), again_of(asked, backend), samples, batch=4)


def looked_at_anew(patient: Any) -> None:
    """As when it was loaded: with what was patched since, and no picture that was made before."""
    from pgbench.backends.paligemma.pictures import Pictures, Published
    from pgbench.backends.paligemma.prompts import Prompts, Tokens

    backend, processor = patient.backend, patient.backend._loaded.processor
    backend._pictures = Pictures()
    if backend._prompts:
        tokens = Tokens(processor.tokenizer, backend._lock)
        backend._prompts = Prompts(processor, tokens, backend._lock)
    if backend._published:
        backend._published = Published(processor.image_processor)


def broken(patient: Any) -> str:
    """The first probe that does not pass; "" where all do."""
    from pgbench.backends.paligemma.probes import PROBES

    looked_at_anew(patient)
    try:
        return next((probe.name for probe in PROBES if probe.run(patient).passed is False), "")
    finally:
        patient.close()


def finding(patient: Any, name: str) -> Finding:
    from pgbench.backends.paligemma.probes import PROBES

    looked_at_anew(patient)
    (probe,) = (probe for probe in PROBES if probe.name == name)
    found = probe.run(patient)
    assert found.probe == name
    return found


@pytest.fixture(scope="module")
def patients() -> Iterator[Patients]:
    """Loaded stacks by what was asked for, for tests that leave them as they were."""
    loaded: dict[ModelRequest, Any] = {}

    def of(*asked: str, **more: Any) -> Any:
        wanted = request(*asked, **more)
        if wanted not in loaded:
            loaded[wanted] = opened(wanted)
        return loaded[wanted]

    yield of
    for patient in loaded.values():
        patient.backend.close()


# A whole stack


# Each family and level once and both protocols of each family; benchmarks/doctor_proofs.py has all of them.
REDUCED = (
    ("paligemma", "float32", "none", "paper"),
    ("paligemma2", "float32", "none", "hf"),
    ("paligemma", "bfloat16", "none", "hf"),
    ("paligemma2", "bfloat16", "8bit", "paper"),
    ("paligemma", "bfloat16", "4bit", "hf"),
)


@pytest.mark.parametrize(("family", "dtype", "quant", "protocol"), REDUCED)
def test_a_whole_stack_passes(family: str, dtype: str, quant: str, protocol: str) -> None:
    from pgbench.backends.paligemma.probes import PROBES, examine

    checkpoint, stack, verdict = examine(request(family, dtype, quant, protocol=protocol), samples=9, batch=4)
    assert [finding.probe for finding in verdict.findings] == [probe.name for probe in PROBES]
    assert [one for one in verdict.findings if one.passed is not True] == []
    assert (checkpoint.dtype, checkpoint.quant, stack.doctor) == (dtype, quant, None)
    figures = {one.probe: one.figures for one in verdict.findings}
    assert (figures["batch"]["n"], figures["batch"]["equal"]) == (9, 1)
    assert figures["batch"]["least"] == (1 if (dtype, quant) == ("float32", "none") else 0.97)
    assert figures["layout"]["image_tokens"] == 16
    assert (figures["quantized"]["quantized"] > 0) == (quant != "none")
    capped = family == "paligemma2" and protocol == "hf"
    caps = figures["soft-caps"]
    assert (caps["attention_cap"], caps["final_cap"]) == ((50, 30) if capped else (0, 0))
    assert figures["window"]["windowed"] == capped  # one of two layers


def test_what_needs_a_second_load_is_left_out_by_flag_and_says_so() -> None:
    from pgbench.backends.paligemma.probes import examine

    _, _, verdict = examine(request("paligemma", "bfloat16", "8bit"), samples=3, second=False)
    left_out = {one.probe: one.said for one in verdict.findings if one.passed is None}
    assert left_out.keys() == {"quantized", "reload"}
    assert all("--one-load" in said for said in left_out.values())
    assert verdict.broken is None


# Inputs


def test_a_dropped_newline(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import PaliGemmaProcessor

    patient, whole = patients("paligemma2"), PaliGemmaProcessor.__call__

    def shorter(self: Any, *args: Any, **kwargs: Any) -> Any:
        batch = whole(self, *args, **kwargs)
        for name in ("input_ids", "token_type_ids", "attention_mask"):
            batch[name] = batch[name][:, :-1]
        return batch

    monkeypatch.setattr(PaliGemmaProcessor, "__call__", shorter)
    assert broken(patient) == "layout"
    assert "newline" in finding(patient, "layout").said


def test_a_separator_that_is_left_out(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    from pgbench.backends.paligemma import paper

    monkeypatch.setattr(paper, "SEPARATOR", "")
    assert broken(patients("paligemma", protocol="paper")) == "layout"


def test_too_few_image_tokens(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = patients("paligemma2")
    monkeypatch.setattr(patient.backend._loaded.processor, "image_seq_length", 15)
    assert broken(patient) == "layout"
    assert "15 image tokens" in finding(patient, "layout").said


@pytest.mark.parametrize(("field", "value"), [("resample", 2), ("resample", 1), ("image_mean", [0.48] * 3)])
def test_other_pixels(patients: Patients, monkeypatch: pytest.MonkeyPatch, field: str, value: object) -> None:
    patient = patients("paligemma")
    monkeypatch.setattr(patient.backend._loaded.processor.image_processor, field, value)
    assert broken(patient) == "pixels"


def test_another_pillow(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    """The filter itself: what is expected is computed without Pillow."""
    from PIL import Image

    resize = Image.Image.resize

    def bilinear(self: Any, size: Any, *args: Any, **kwargs: Any) -> Any:
        return resize(self, size, Image.Resampling.BILINEAR)

    monkeypatch.setattr(Image.Image, "resize", bilinear)
    assert broken(patients("paligemma")) == "pixels"


@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize("size", [(23, 31), (40, 40), (97, 131)])
def test_pixels_are_expected_as_pillow_resizes(size: tuple[int, int], resample: int) -> None:
    import numpy as np
    from PIL import Image

    from pgbench.backends.paligemma.probes_inputs import _resized

    levels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(levels).resize((40, 40), resample))
    assert np.array_equal(_resized(levels, 40, resample), expected)


@pytest.mark.parametrize("fault", ["antialias", "rounded", "bicubic"])
def test_other_pixels_of_the_paper(patients: Patients, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    import numpy as np
    from PIL import Image

    from pgbench.backends.paligemma import paper, pixels

    def wrong(picture: Any, side: int, *, antialias: bool) -> Any:
        if fault == "antialias":
            return pixels.resize(picture, side, antialias=not antialias)
        if fault == "bicubic":
            return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))
        return np.clip(np.rint(pixels.bilinear(picture, side, antialias=antialias)), 0, 255).astype(np.uint8)

    monkeypatch.setattr(paper, "resize", wrong)
    assert broken(patients("paligemma", protocol="paper")) == "pixels"


@pytest.mark.parametrize("fault", ["swapped", "shuffled", "blank"])
def test_an_image_that_is_not_there(patients: Patients, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Between the vision tower and the rows."""
    patient = patients("paligemma2")
    whole = patient.backend._features.of

    def wrong(*args: Any) -> Any:
        features = whole(*args)
        changed = {"swapped": features.flip(0), "shuffled": features.roll(1, 1), "blank": features * 0}
        return changed[fault]

    monkeypatch.setattr(patient.backend._features, "of", wrong)
    assert broken(patient) == "image"


def test_pictures_that_are_mixed_in_larger_batches(
    patients: Patients, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = patients("paligemma")
    whole = patient.backend._features.of

    def mixed(model: Any, rows: Sequence[Any], *where: Any) -> Any:
        found = whole(model, rows, *where)
        return found.roll(1, 0) if len(rows) > 2 else found

    monkeypatch.setattr(patient.backend._features, "of", mixed)
    assert broken(patient) == "image"


# What a token sees


def test_token_types_of_a_prompt(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ones: what the backend itself takes for causal is no excuse. Those of the processor are not used."""
    patient = patients("paligemma2")
    whole = patient.backend._inputs

    def causal(asked: Any) -> Any:
        inputs, ids = whole(asked)
        return replace(inputs, types=inputs.types * 0 + 1), ids

    monkeypatch.setattr(patient.backend, "_inputs", causal)
    assert broken(patient) == "attention"


@pytest.mark.parametrize(("family", "quant"), [("paligemma", "none"), ("paligemma2", "8bit")])
def test_no_token_type_ids(
    patients: Patients, family: str, monkeypatch: pytest.MonkeyPatch, quant: str
) -> None:
    """transformers 5.10 and later make the prefix causal then; sdpa hides it until rows are padded."""
    patient = patients(family, "float32" if quant == "none" else "bfloat16", quant)
    collate = patient.backend._collate

    def without(rows: Sequence[Any]) -> Any:
        return {name: value for name, value in collate(rows).items() if name != "token_type_ids"}

    monkeypatch.setattr(patient.backend, "_collate", without)
    assert broken(patient) == "attention"


def test_attention_to_the_image_alone(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    """What vLLM 0.33 does: text is causal, images see no text."""
    patient = patients("paligemma")
    collate = patient.backend._collate

    def other(rows: Sequence[Any]) -> Any:
        found = collate(rows)
        image = patient.model.config.image_token_id
        return {**found, "token_type_ids": (found["input_ids"] != image).long()}

    monkeypatch.setattr(patient.backend, "_collate", other)
    assert broken(patient) == "attention"
    assert "image tokens" in finding(patient, "attention").said


@pytest.mark.parametrize("which", ["both", "window"])
def test_a_causal_mask(patients: Patients, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    """In every layer, or in those with a window alone, where the other layers hide it."""
    from transformers.models.paligemma import modeling_paligemma as modeling

    def causal(make: Any) -> Any:
        return lambda **kwargs: make(**{k: v for k, v in kwargs.items() if k != "block_sequence_ids"})

    names = ["create_sliding_window_causal_mask", *(["create_causal_mask"] if which == "both" else [])]
    for name in names:
        monkeypatch.setattr(modeling, name, causal(getattr(modeling, name)))
    assert broken(patients("paligemma2")) == ("attention" if which == "both" else "layers")


def test_right_padding(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = patients("paligemma")
    collate = patient.backend._collate

    def right(rows: Sequence[Any]) -> Any:
        found = collate(rows)
        pads = found["attention_mask"].argmax(1).tolist()
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            for number, row in enumerate(found[name]):
                found[name][number] = row.roll(-pads[number])
        return found

    monkeypatch.setattr(patient.backend, "_collate", right)
    assert broken(patient) == "padding"


@pytest.mark.parametrize("where", ["mask of ones", "mask not used"])
def test_padding_that_is_seen(patients: Patients, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    from transformers.models.paligemma import modeling_paligemma as modeling

    patient = patients("paligemma2")
    collate = patient.backend._collate

    def ones(rows: Sequence[Any]) -> Any:
        found = collate(rows)
        return {**found, "attention_mask": found["attention_mask"] * 0 + 1}

    def unused(make: Any) -> Any:
        return lambda **kwargs: make(**{**kwargs, "attention_mask": None})

    if where == "mask of ones":
        monkeypatch.setattr(patient.backend, "_collate", ones)
    else:
        for name in ("create_sliding_window_causal_mask", "create_causal_mask"):
            monkeypatch.setattr(modeling, name, unused(getattr(modeling, name)))
    assert broken(patient) == "padding"


@pytest.mark.parametrize("fault", ["sdpa", "no attention cap", "another cap", "no final cap", "33 for 30"])
def test_a_soft_cap_that_is_gone(patients: Patients, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """A kernel without the attention cap, as sdpa's is; the config goes on naming the cap."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    patient = patients("paligemma2", "bfloat16")
    text = patient.model.config.text_config
    if fault == "sdpa":
        sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]

        def capless(*args: Any, **kwargs: Any) -> Any:  # transformers 5.23 refuses, up to 5.20 it did this
            return sdpa(*args, **{**kwargs, "softcap": None})

        # not into the instance, where it would stay as its own
        monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", capless)
        monkeypatch.setattr(text, "_attn_implementation_internal", "sdpa")
        assert text.attn_logit_softcapping == 50
    elif fault in ("no attention cap", "another cap"):
        cap = None if fault == "no attention cap" else 30.0
        monkeypatch.setattr(patient.text.layers[1].self_attn, "attn_logit_softcapping", cap)
    else:
        monkeypatch.setattr(text, "final_logit_softcapping", None if fault == "no final cap" else 33.0)
    assert broken(patient) == "soft-caps"


@pytest.mark.parametrize("protocol", ["hf", "paper"])
def test_a_soft_cap_that_was_added(
    patients: Patients, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    patient = patients("paligemma" if protocol == "hf" else "paligemma2", protocol=protocol)
    monkeypatch.setattr(patient.model.config.text_config, "final_logit_softcapping", 30.0, raising=False)
    assert broken(patient) == "soft-caps"
    assert "has a soft-cap" in finding(patient, "soft-caps").said


@pytest.mark.parametrize("protocol", ["hf", "paper"])
def test_another_window(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pgbench.backends.paligemma import paper

    config = paper.config

    def windowed(checkpoint: Checkpoint, folder: Path) -> Any:
        found = config(checkpoint, folder)
        found.text_config.layer_types = ["sliding_attention", "full_attention"]
        return found

    monkeypatch.setattr(paper, "config", windowed)
    patient = opened(request("paligemma2", protocol=protocol))
    if protocol == "hf":
        monkeypatch.setattr(patient.model.config.text_config, "layer_types", ["full_attention"] * 2)
    assert broken(patient) == "window"


def test_a_shorter_window(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = patients("paligemma2")
    monkeypatch.setattr(patient.text.layers[0].self_attn, "sliding_window", 64)
    assert broken(patient) == "window"
    assert "64 tokens, the protocol wants 4,096" in finding(patient, "window").said


# Answers


def test_overflow_in_float16() -> None:
    patient = opened(request("paligemma2", "float16"))
    layer = patient.text.layers[0].mlp.down_proj
    layer.weight.data *= 60_000 / layer.weight.data.abs().max()
    assert broken(patient) == "finite"
    assert "float16" in finding(patient, "finite").said


def test_an_overflow_that_the_final_cap_hides(patients: Patients) -> None:
    patient = patients("paligemma2")
    hook = patient.model.lm_head.register_forward_hook(lambda _module, _args, output: output * float("inf"))
    try:
        assert broken(patient) == "finite"
    finally:
        hook.remove()


@pytest.mark.parametrize("fault", ["lost", "mixed"])
def test_a_broken_cache(patients: Patients, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    from transformers.cache_utils import DynamicLayer

    update = DynamicLayer.update

    def wrong(self: Any, keys: Any, values: Any, *args: Any, **kwargs: Any) -> Any:
        kept, found = update(self, keys, values, *args, **kwargs)
        if kept.shape[2] == keys.shape[2]:  # the prompt itself
            return kept, found
        if fault == "lost":
            found[:, :, :8] = 0
        return kept, found.roll(1, 2) if fault == "mixed" else found

    monkeypatch.setattr(DynamicLayer, "update", wrong)
    assert broken(patients("paligemma")) == "cache"


def test_rows_that_a_cache_mixes(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 too, where the logits of a small model hardly move; each layer's attention does."""
    from transformers.cache_utils import DynamicLayer

    update = DynamicLayer.update

    def mixed(self: Any, keys: Any, values: Any, *args: Any, **kwargs: Any) -> Any:
        kept, found = update(self, keys, values, *args, **kwargs)
        return (kept, found) if kept.shape[2] == keys.shape[2] else (kept.flip(0), found.flip(0))

    monkeypatch.setattr(DynamicLayer, "update", mixed)
    assert broken(patients("paligemma")) == "cache"
    assert broken(patients("paligemma", "bfloat16")) == "cache"


def test_neighbours_that_are_mixed_in_larger_batches(patients: Patients) -> None:
    patient = replace(patients("paligemma2", "bfloat16"), batch=6, samples=6)

    def mixed(_module: object, _args: object, output: Any) -> Any:
        return output + 4 * output.roll(1, 0) if len(output) > 5 else output

    hook = patient.model.lm_head.register_forward_hook(mixed)
    try:
        assert broken(patient) == "batch"
    finally:
        hook.remove()
    found = finding(patient, "batch")
    assert (found.passed, found.figures["equal"]) == (True, 1)


# Weights


def test_a_layer_that_is_not_quantized() -> None:
    import torch

    patient = opened(request("paligemma2", "bfloat16", "4bit"))
    mlp = patient.text.layers[1].mlp
    plain = torch.nn.Linear(mlp.up_proj.in_features, mlp.up_proj.out_features, bias=False)
    mlp.up_proj = plain.to(torch.bfloat16)
    found = finding(patient, "quantized")
    assert found.passed is False
    assert "left 1 layers as they were" in found.said


@pytest.mark.parametrize("fault", ["not applied", "ruined"])
def test_logits_that_do_not_move_or_move_too_far(fault: str) -> None:
    patient = opened(request("paligemma", "bfloat16", "8bit"))
    plain = dict(patient.plain()._loaded.model.named_modules())
    for name, module in patient.model.named_modules():
        if type(module).__name__ == "Linear8bitLt":
            if fault == "not applied":
                module.forward = plain[name].forward
            elif name.endswith("down_proj"):
                module.state.SCB *= 40
    found = finding(patient, "quantized")
    patient.close()
    assert found.passed is False
    assert (found.figures["moved"] == 0) == (fault == "not applied")


@pytest.mark.parametrize("quant", ["none", "4bit"])
def test_weights_that_change_when_they_are_saved(
    patients: Patients, monkeypatch: pytest.MonkeyPatch, quant: str
) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import PreTrainedModel

    save = PreTrainedModel.save_pretrained

    def changed(self: Any, folder: Path, *args: Any, **kwargs: Any) -> None:
        save(self, folder, *args, **kwargs)
        (path,) = Path(folder).glob("*.safetensors")
        tensors = load_file(path)
        name = next(name for name in tensors if name.endswith("layers.1.self_attn.o_proj.weight"))
        tensors[name] = -tensors[name] * 2 if quant == "4bit" else tensors[name] * 1.01
        save_file(tensors, path, metadata={"format": "pt"})

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", changed)
    patient = patients("paligemma2", "bfloat16", quant)
    found = finding(patient, "reload")
    patient.close()
    assert found.passed is False
    assert ("layers.1.self_attn.o_proj.weight is another" in found.said) == (quant == "none")


def test_a_processor_that_changes_when_it_is_saved(
    patients: Patients, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PaliGemmaProcessor

    save = PaliGemmaProcessor.save_pretrained

    def changed(self: Any, *args: Any, **kwargs: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.image_processor, "resample", 2)
            save(self, *args, **kwargs)

    monkeypatch.setattr(PaliGemmaProcessor, "save_pretrained", changed)
    assert finding(patients("paligemma"), "reload").said.startswith("pixels of a question")
