"""Tables that a person reads: figures, caveats, and text that cannot steer a terminal."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgbench.errors import UsageError
from pgbench.records import Cost, Data, Failure, PeakMemory, RunRecord, Score, Stack
from pgbench.report.render import printable, terminal, width
from pgbench.report.table import Table, by_group, caveats, of_record, size
from pgbench.types import Checkpoint, DataSource, Profile, RunSpec

SCORE = Score(0.6004, 0.5872, 0.6136, 0.0067, 5000, 5000, 3166, 3, 0, "clustered t")
VERSIONS = {"torch": "2.13.0", "transformers": "5.23.0", "pillow": "13.0.0"}
SPEC = RunSpec(
    task="textvqa",
    version=1,
    variant="default",
    mode="generate",
    split="val",
    source=DataSource("hub", "lmms-lab/textvqa", "9c0699ad" * 5),
    checkpoint=Checkpoint(
        "google/paligemma2-3b-mix-448", "f00dcafe" * 5, Profile("mix", "paligemma2"), 448, quant="none"
    ),
)
RECORD = RunRecord(
    schema=1,
    key=SPEC.key,
    spec=SPEC,
    stack=Stack(backend="paligemma", versions=VERSIONS, threads=8, device="cuda", device_name="NVIDIA A100"),
    data=Data("d", available=5000, published=5000, selected=5000, unscored=0, demo=False),
    scores={"accuracy": SCORE},
    groups={},
    cost=Cost(12.3, 0.4, 6 << 30, PeakMemory(7 << 30, "device allocated"), 5000, 41.25, 8, 0.19, 0.22, 0),
    started="2026-01-01T00:00:00+00:00",
    finished="2026-01-01T00:02:00+00:00",
    status="complete",
    primary="accuracy",
)


def test_the_table_of_a_full_run() -> None:
    assert terminal(of_record(RECORD)).splitlines() == [
        "textvqa v1 · val · 5,000 samples from lmms-lab/textvqa@9c0699ad (hub)",
        "google/paligemma2-3b-mix-448@f00dcafe · 448 px · bfloat16 · NVIDIA A100 · batch 8",
        "",
        "metric    score   95 % interval      n  clusters  invalid  failed",
        "─────────────────────────────────────────────────────────────────",
        "accuracy  60.04  58.72 to 61.36  5,000     3,166        3       0",
        "─────────────────────────────────────────────────────────────────",
        "intervals: clustered t",
        "41.2 samples/s · batch of 8: p50 0.190 s, p95 0.220 s · load 12.3 s",
        "weights 6.00 GiB · peak memory 7.00 GiB (device allocated)",
        "torch 2.13.0 · transformers 5.23.0 · 8 CPU threads",
    ]


def test_one_breakdown_in_full() -> None:
    half = dataclasses.replace(SCORE, value=0.5, low=None, high=None, interval="none", n=3000)
    groups = {"setting": {"random": {"accuracy": half, "f1": SCORE}, "popular": {"accuracy": SCORE}}}
    record = dataclasses.replace(RECORD, groups=groups)
    assert terminal(by_group(record, "setting")).splitlines() == [
        "textvqa v1 · val · 5,000 samples from lmms-lab/textvqa@9c0699ad (hub)",
        "google/paligemma2-3b-mix-448@f00dcafe · 448 px · bfloat16 · NVIDIA A100 · batch 8",
        "",
        "setting  metric    score   95 % interval      n  clusters  invalid  failed",
        "──────────────────────────────────────────────────────────────────────────",
        "random   accuracy  50.00            none  3,000     3,166        3       0",
        "random   f1        60.04  58.72 to 61.36  5,000     3,166        3       0",
        "popular  accuracy  60.04  58.72 to 61.36  5,000     3,166        3       0",
        "──────────────────────────────────────────────────────────────────────────",
        "intervals: clustered t",
    ]
    limited = dataclasses.replace(record, data=dataclasses.replace(RECORD.data, selected=100))
    assert by_group(limited, "setting").notes[-1].startswith("LIMITED to 100")
    with pytest.raises(
        UsageError, match=r"unknown group of this textvqa run 'settin'; did you mean setting\?"
    ):
        by_group(record, "settin")


def data(**changes: Any) -> RunRecord:
    return dataclasses.replace(RECORD, data=dataclasses.replace(RECORD.data, **changes))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (RECORD, None),
        (data(demo=True), "DEMO NUMBERS: drawn images"),
        (data(available=50, selected=50), "INCOMPLETE SPLIT: 50 samples here, 5,000 as published"),
        (data(unscored=7), "without references, answered and not scored: 7"),
        (data(selected=100), "LIMITED to 100 of 5,000 samples"),
        (
            dataclasses.replace(RECORD, cost=dataclasses.replace(RECORD.cost, nonfinite=2)),
            "logits that are nan or inf met by samples: 2",
        ),
        (dataclasses.replace(RECORD, failures=(Failure("17", "cut"),)), "1 failed, first: 17: cut"),
    ],
)
def test_caveats(record: RunRecord, expected: str | None) -> None:
    assert [text.startswith(expected or "") for text in caveats(record)] == ([True] if expected else [])


def test_only_the_whole_published_split_is_full() -> None:
    assert RECORD.data.full
    for changes in (
        {"demo": True},
        {"available": 4999, "selected": 4999},
        {"selected": 100},
        {"published": None},
    ):
        assert not data(**changes).data.full


def test_an_undefined_score_is_no_zero() -> None:
    none = dataclasses.replace(SCORE, value=None, low=None, high=None, stderr=None, interval="none")
    text = terminal(of_record(dataclasses.replace(RECORD, scores={"accuracy": none})))
    assert "undefined" in text
    assert "0.00" not in text.splitlines()[5]


@given(st.text())
def test_nothing_steers_the_terminal(text: str) -> None:
    shown = printable(text)
    assert "\x1b" not in shown
    assert "\n" not in shown
    assert all(ord(letter) >= 32 and not 0x7F <= ord(letter) < 0xA0 for letter in shown)
    assert "\u202e" not in shown


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("交通", 4), ("e\u0301", 1), ("", 0)])
def test_width_in_columns(text: str, columns: int) -> None:
    assert width(text) == columns


def test_columns_align_with_wide_letters() -> None:
    lines = terminal(Table((), ("name", "n"), (("交通", "1"), ("ab", "22")), ())).splitlines()
    assert {width(line) for line in lines if line} == {8}


@pytest.mark.parametrize(("count", "text"), [(12, "12 B"), (400_000, "0.4 MiB"), (3 << 30, "3.00 GiB")])
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text
