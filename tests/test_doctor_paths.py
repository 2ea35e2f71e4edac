"""The doctor's probes of what is done for speed: each names the fault that is planted, in every dtype.

Faults are put into the reuse of features, the decoding, the likelihoods and the kernels, never into a probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from test_doctor import broken, finding, opened, request

from pgbench.errors import CheckpointError
from pgbench.types import ModelRequest

Patients = Callable[..., Any]
FAMILIES = ("paligemma", "paligemma2")
DTYPES = ("float32", "bfloat16")


@pytest.fixture(scope="module")
def patients() -> Iterator[Patients]:
    loaded: dict[ModelRequest, Any] = {}

    def of(*asked: str) -> Any:
        wanted = request(*asked)
        if wanted not in loaded:
            loaded[wanted] = opened(wanted)
        return loaded[wanted]

    yield of
    for patient in loaded.values():
        patient.backend.close()


# Features


def test_features_that_are_kept_under_one_name(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    from pgbench.backends.paligemma import features

    patient = patients("paligemma", "bfloat16")
    by_itself = patient.backend._features._kept.get
    monkeypatch.setattr(patient.backend._features._kept, "get", lambda name, make: by_itself("one", make))
    found = finding(patient, "features")
    patient.backend._features.forget()
    assert not found.passed
    assert "(alone)" in found.said
    assert features.Features is type(patient.backend._features)


def test_features_that_change_while_they_are_kept(
    patients: Patients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a bit, which no distance of logits would show."""
    patient = patients("paligemma2", "bfloat16")
    kept = patient.backend._features._kept
    get, times = kept.get, dict[Any, int]()

    def later(name: Any, make: Any) -> Any:
        times[name] = times.get(name, 0) + 1
        found = get(name, make)
        return found if times[name] == 1 else found * 1.01

    monkeypatch.setattr(kept, "get", later)
    assert "kept for a later batch" in finding(patient, "features").said


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_features_in_another_order(
    patients: Patients, monkeypatch: pytest.MonkeyPatch, family: str, dtype: str
) -> None:
    from pgbench.backends.paligemma import features

    patient = patients(family, dtype)
    looked_at = features._looked_at

    def mixed(*asked: Any) -> Any:
        """Of the pictures of one group, in the order of their names in the place of the rows'."""
        found = looked_at(*asked)
        names = [one.key for one in asked[1]]
        return found[sorted(range(len(names)), key=names.__getitem__)]

    monkeypatch.setattr(features, "_looked_at", mixed)
    assert broken(patient) in ("image", "features")
    assert not finding(patient, "features").passed


def test_features_that_stand_for_others_than_pixels(
    patients: Patients, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = patients("paligemma", "float32")
    of = patient.backend._features.of
    monkeypatch.setattr(patient.backend._features, "of", lambda *asked: 1.5 * of(*asked))
    assert "(pixels)" in finding(patient, "features").said


# Rows that leave


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fault", ["other rows", "same cache", "positions"])
def test_rows_that_are_mixed_when_others_leave(
    patients: Patients, monkeypatch: pytest.MonkeyPatch, fault: str, family: str, dtype: str
) -> None:
    from pgbench.backends.paligemma import greedy

    patient = patients(family, dtype)
    select = greedy._select

    def wrong(cache: Any, rows: Any) -> None:
        select(cache, rows.flip(0) if fault == "other rows" else rows)
        for layer in cache.layers:
            if fault == "same cache":
                layer.keys, layer.values = (part[:1].expand_as(part) for part in (layer.keys, layer.values))
            elif fault == "positions":  # the newest token's keys are lost
                layer.keys = layer.keys.roll(1, dims=2)

    monkeypatch.setattr(greedy, "_select", wrong)
    assert broken(patient) == "leaving"


def test_a_limit_that_is_not_kept(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    from pgbench.backends.paligemma import greedy

    patient = patients("paligemma", "float32")
    decode = greedy.decode
    monkeypatch.setattr(
        greedy,
        "decode",
        lambda model, inputs, limits, stop, **how: decode(
            model, inputs, [max(limits)] * len(limits), stop, **how
        ),
    )
    monkeypatch.setattr(type(patient.backend), "_reply", _whole(type(patient.backend)._reply))
    assert "expected [2, 6, 6, 1]" in finding(patient, "leaving").said


def _whole(reply: Any) -> Any:
    from dataclasses import replace

    def of(self: Any, prepared: Any, ids: Any, finite: bool) -> Any:
        asked = replace(prepared.request, max_new_tokens=len(ids))
        return reply(self, replace(prepared, request=asked), ids, finite)

    return of


# Likelihoods


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_that_see_the_answer(
    patients: Patients, monkeypatch: pytest.MonkeyPatch, family: str, dtype: str
) -> None:
    """As with a flash kernel that gets no mask: of several tokens behind the prompt each sees all."""
    from transformers import AttentionInterface

    patient = patients(family, dtype)
    name = patient.model.config.text_config._attn_implementation
    attend = AttentionInterface._global_mapping[name]

    def seeing(module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
        if 1 < query.shape[2] < key.shape[2]:
            mask = mask[:, :, -1:].expand_as(mask)
        return attend(module, query, key, value, mask, **more)

    monkeypatch.setitem(AttentionInterface._global_mapping, name, seeing)
    assert broken(patient) == "kernels"
    assert finding(patient, "likelihood").passed is False


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fault", ["another row's cache", "positions"])
def test_likelihoods_that_are_not_those_of_generation(
    patients: Patients, monkeypatch: pytest.MonkeyPatch, fault: str, family: str, dtype: str
) -> None:
    from pgbench.backends.paligemma import likelihood

    patient = patients(family, dtype)
    forward, selected = likelihood._forward, likelihood._selected

    def further(model: Any, **inputs: Any) -> Any:
        if "mm_encoder_outputs" not in inputs:
            inputs["position_ids"] = inputs["position_ids"] + 30
        return forward(model, **inputs)

    if fault == "positions":
        monkeypatch.setattr(likelihood, "_forward", further)
    else:
        monkeypatch.setattr(likelihood, "_selected", lambda cache, rows: selected(cache, rows.flip(0)))
    found = finding(patient, "likelihood")
    assert found.passed is False, found


# Halves


def test_a_batch_that_ends_the_run(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = patients("paligemma2", "float32")

    def ended(rows: int, work: Any) -> Any:
        try:
            return work()
        except RuntimeError as error:
            raise CheckpointError("out of memory; lower --batch-size") from error

    monkeypatch.setattr(patient.backend, "_fitting", ended)
    assert "ends the run: CheckpointError" in finding(patient, "halves").said


def test_a_batch_that_leaves_something_behind(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = patients("paligemma2", "float32")
    fitting, handles = patient.backend._fitting, []

    def broken_by_it(rows: int, work: Any) -> Any:
        try:
            return fitting(rows, work)
        except Exception:
            hook = lambda _module, _args, output: output * 1.5  # noqa: E731
            handles.append(patient.text.layers[0].register_forward_hook(hook))
            raise

    monkeypatch.setattr(patient.backend, "_fitting", broken_by_it)
    found = finding(patient, "halves")
    for handle in handles:
        handle.remove()
    assert not found.passed
    assert "limit" in found.said


# Kernels


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_kernel_that_went_wrong_after_it_was_chosen(
    patients: Patients, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    from transformers import AttentionInterface

    from pgbench.backends.paligemma.grouped import attend

    patient = patients("paligemma2", dtype)
    name = patient.model.config.text_config._attn_implementation
    assert name == "grouped"

    def capless(*args: Any, **more: Any) -> Any:
        return attend(*args, **(more | {"softcap": None}))

    monkeypatch.setitem(AttentionInterface._global_mapping, name, capless)
    assert "away from attention in float32" in finding(patient, "kernels").said
    assert broken(patient) == "soft-caps"  # what is nearest to the cause


def test_a_stack_that_names_another_kernel(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = patients("paligemma2", "float32")
    text = patient.model.config.text_config
    monkeypatch.setattr(text, "_attn_implementation_internal", "eager")
    found = finding(patient, "kernels")
    assert found.said == "the text model uses eager attention, the stack says grouped"
    assert broken(patient) == "kernels"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fault", ["another place", "padding is seen", "without its picture"])
def test_a_last_layer_that_went_wrong_after_it_was_looked_at(
    patients: Patients, monkeypatch: pytest.MonkeyPatch, fault: str, family: str, dtype: str
) -> None:
    """What is computed at a prompt's last token alone is held against whole passes."""
    from pgbench.backends.paligemma import last

    cut, patient = last._instead, patients(family, dtype)
    assert patient.backend._loaded.cut

    def wrong(layer: Any, given: Any, named: Any) -> Any:
        if (found := cut(layer, given, named)) is None:
            return None
        hidden, changed = found
        if fault == "another place":
            changed["position_embeddings"] = tuple(part[:, :1] for part in named["position_embeddings"])
        elif fault == "padding is seen":
            changed["attention_mask"] = None
        else:
            named["past_key_values"].layers[layer.self_attn.layer_idx].values[:, :, :16] = 0
        return hidden, changed

    monkeypatch.setattr(last, "_instead", wrong)
    assert broken(patient) in ("cache", "batch")  # one row's padding moves little below float32


@pytest.mark.parametrize("cache", ["static", "dynamic"])
def test_a_static_cache_passes_every_probe(cache: str) -> None:
    patient = opened(request("paligemma", cache=cache))
    try:
        assert broken(patient) == ""
        assert finding(patient, "leaving").figures["without_all_rows"] == (0 if cache == "static" else 5)
    finally:
        patient.backend.close()
