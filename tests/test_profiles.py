"""What a checkpoint's name says about how it is asked."""

from __future__ import annotations

import pytest

from pgbench.profiles import DEFAULT, RELEASED, SHIPPED, profile_of
from pgbench.types import Kind, Profile, Style


@pytest.mark.parametrize(
    ("name", "kind", "tuned_on"),
    [
        ("google/paligemma-3b-pt-224", "pt", None),
        ("google/paligemma2-28b-pt-896", "pt", None),
        ("google/paligemma-3b-mix-448", "mix", None),
        ("google/paligemma2-10b-mix-224", "mix", None),
        ("google/paligemma-3b-ft-textvqa-896", "ft", "textvqa"),
        ("google/paligemma-3b-ft-vqav2-448", "ft", "vqav2"),
        ("google/paligemma-3b-ft-gqa-224", "ft", "gqa"),
        ("google/paligemma-3b-ft-science-qa-448", "ft", "scienceqa"),
        ("google/paligemma2-3b-ft-docci-448", "ft", "docci"),
        ("BUAADreamer/PaliGemma-3B-Chat-v0.2", "chat", None),
        # names of folders
        ("paligemma_3b_mix_224", "mix", None),
        ("PaliGemma-3B-PT-224", "pt", None),
        ("tiny-paligemma-3b-mix-224", "mix", None),
        # names that say nothing are somebody's fine-tune on something unknown
        ("my-model", "ft", None),
        ("", "ft", None),
        ("my-ft-model", "ft", None),
        ("chatty-model", "ft", None),
        ("adapted-optimised", "ft", None),
        ("mixture", "ft", None),
        # only the last part counts
        ("mix-lab/paligemma-3b-pt-224", "pt", None),
    ],
)
def test_kinds(name: str, kind: Kind, tuned_on: str | None) -> None:
    style: Style = "official" if kind == "chat" else "paligemma"
    assert profile_of(name, "paligemma") == Profile(kind, "paligemma", tuned_on, style)


def test_family_and_style_are_passed_on() -> None:
    """The family is the config's word: a name may say paligemma2 and hold another."""
    found = profile_of("google/paligemma-3b-mix-224", "paligemma2", "official")
    assert (found.family, found.style) == ("paligemma2", "official")


def test_every_released_name_has_a_kind_that_it_says() -> None:
    said = {name: profile_of(name, "paligemma") for name in RELEASED}
    assert {found.kind for found in said.values()} == {"pt", "mix", "ft", "chat"}
    assert all(found.tuned_on for found in said.values() if found.kind == "ft")
    assert len(set(RELEASED)) == len(RELEASED)


def test_the_default_is_shipped() -> None:
    assert DEFAULT in SHIPPED
    assert not set(SHIPPED) & set(RELEASED)
