"""NES-proxy: a judge made here, whose answers are known, and judges that have to be refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from caption_runs import caption_run
from nli_checkpoint import LABELS, nli, relabel
from tiny import copied, edit_json

from pgbench.backends.nli import Pair, Verdict, _longest, load
from pgbench.cli import invoke
from pgbench.errors import CheckpointError, HubError, UsageError
from pgbench.metrics.docci import sentences

Capture = pytest.CaptureFixture[str]
THREE = ("contradiction", "entailment", "neutral")


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nli(tmp_path_factory.mktemp("nli") / "hand-set")


@pytest.fixture(scope="module")
def chance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of random weights: answers that no rule of a test decides."""
    return nli(tmp_path_factory.mktemp("nli") / "random", by_hand=False, seed=3)


def asked(folder: Path, pairs: Sequence[Pair], batch: int = 4) -> list[Verdict]:
    return load(str(folder), device="cpu").judge(pairs, sentences, batch, lambda done: None)


def proxied(capsys: Capture, judge: Path, *runs: Path, batch: int = 16) -> dict[str, Any]:
    arguments = ["nes", "judge", *map(str, runs), "--judge", str(judge), "--device", "cpu", "--json"]
    assert invoke([*arguments, "--batch-size", str(batch)]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_a_hand_set_judge(judge: Path, tmp_path: Path, capsys: Capture) -> None:
    run = caption_run(
        tmp_path / "runs",
        ["Filler one. Filler two.", "Filler. No no no.", "Filler.", "Maybe maybe.", "Filler.", None, ""],
        references={
            0: "Yes yes.",  # both entailed
            1: "Yes yes.",  # entailed; "no" outweighs "yes" in the second
            2: "Maybe.",  # neutral
            3: ("No.", "Yes yes yes."),  # the second reference entails it
            4: None,  # nothing to hold it against
        },
    )
    (found,) = proxied(capsys, judge, run)["runs"]
    assert found["labels"] == {"contradiction": 1, "entailment": 4, "neutral": 1}
    # 2 of 6 sentences; images give 0 of 2, 1 of 2, 1 of 1, 0 of 1
    assert (found["share"]["value"], found["share"]["n"], found["share"]["clusters"]) == (2 / 6, 6, 4)
    counts = ("captions", "failed", "empty", "unreferenced", "windowed", "cut")
    assert [found[name] for name in counts] == [4, 1, 1, 1, 0, 0]
    assert found["name"] == f"NES-proxy (hand-set@{found['judge']['digest'][:8]})"
    assert found["judge"]["revision"] == found["judge"]["digest"]
    assert found["judge"]["versions"].keys() >= {"torch", "transformers", "pgbench"}
    assert found["kind"] == "nes-proxy"
    assert found["sentences_per_caption"] == pytest.approx(7 / 6)


def test_the_sidecar_and_the_table(judge: Path, tmp_path: Path, capsys: Capture) -> None:
    run = caption_run(tmp_path / "runs", ["Filler. No no no.", None], references={0: "Yes yes."})
    before = (run / "record.json").read_bytes()
    assert invoke(["nes", "judge", str(run), "--judge", str(judge), "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    (kept,) = run.glob("nes-*.json")
    assert kept.name.startswith("nes-proxy-hand-set-")
    document = json.loads(kept.read_text())
    assert document["name"] in captured.out
    assert "NES-proxy  " in captured.out  # the column
    assert "no NES: a model read the reference captions" in captured.out
    assert "over-states NES" in captured.out
    assert "50.00" in captured.out
    assert str(tmp_path) not in kept.read_text()
    assert str(judge) not in kept.read_text()
    assert (run / "record.json").read_bytes() == before
    again = proxied(capsys, judge, run)
    assert json.loads(kept.read_text()) == document == json.loads(json.dumps(again["runs"][0]))
    assert "1 failed, first: s001" in again["warnings"][0]  # JSON says as well what the run is not


def test_a_long_reference_is_read_in_windows(tmp_path: Path) -> None:
    pair = Pair(("No no no no no. Yes yes. Maybe filler filler.",), "Filler.")
    long, short = nli(tmp_path / "long"), nli(tmp_path / "short", longest=11)
    assert asked(long, [pair]) == [Verdict("contradiction", 1, cut=False)]
    assert asked(short, [pair]) == [Verdict("entailment", 3, cut=False)]
    # "no" five times with "yes" twice, then "maybe": none entails, and the second is nearer to it
    assert asked(nli(tmp_path / "mid", longest=14), [pair]) == [Verdict("neutral", 2, cut=False)]


def test_what_no_window_holds_is_cut_and_counted(tmp_path: Path, capsys: Capture) -> None:
    short = nli(tmp_path / "short", longest=8)
    longer = " ".join(["Yes", *["yes"] * 20, "."])
    assert asked(short, [Pair((longer,), "Filler.")]) == [Verdict("entailment", 1, cut=True)]
    assert asked(short, [Pair(("Yes.",), longer)])[0].cut
    run = caption_run(tmp_path / "runs", ["Filler."], references={0: f"{longer} Yes."})
    assert proxied(capsys, short, run)["runs"][0]["cut"] == 1
    assert invoke(["nes", "judge", str(run), "--judge", str(short), "--device", "cpu"]) == 0
    assert "1 sentences CUT: a pair is longer than the judge's 8 tokens" in capsys.readouterr().out


def test_batches_change_nothing(chance: Path) -> None:
    words = ("yes", "maybe", "no", "filler")
    pairs = [
        Pair((" ".join(words[(n * k) % 4] for k in range(1, 2 + n % 7)),), words[n % 4]) for n in range(40)
    ]
    alone, together = asked(chance, pairs, batch=1), asked(chance, pairs, batch=16)
    assert alone == together == asked(chance, pairs, batch=16)
    assert len({verdict.label for verdict in alone}) > 1
    assert asked(chance, pairs[::-1]) == alone[::-1]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (("CONTRADICTION", "ENTAILMENT", "NEUTRAL"), THREE),
        (("Contradiction", " entailment", "neutral "), THREE),
    ],
)
def test_labels_are_read_off_the_config(
    judge: Path, tmp_path: Path, said: Sequence[str], expected: Sequence[str]
) -> None:
    folder = relabel(copied(judge, tmp_path / "judge"), said)
    assert load(str(folder), device="cpu").labels == expected


def test_another_order_of_labels(tmp_path: Path) -> None:
    pairs = [Pair((word,), "filler") for word in ("yes", "maybe", "no")]
    expected = ["entailment", "neutral", "contradiction"]
    for number, labels in enumerate((LABELS, ("entailment", "neutral", "contradiction"))):
        assert [v.label for v in asked(nli(tmp_path / str(number), labels=labels), pairs)] == expected


@pytest.mark.parametrize("other", ["not_entailment", "NOT-ENTAILMENT", "not entailment"])
def test_two_labels(tmp_path: Path, other: str) -> None:
    folder = relabel(nli(tmp_path / "two", labels=("not_entailment", "entailment")), (other, "entailment"))
    pairs = [Pair((word,), "filler") for word in ("yes", "maybe", "no")]
    assert [v.label for v in asked(folder, pairs)] == ["entailment", "not_entailment", "not_entailment"]


@pytest.mark.parametrize(
    "labels",
    [
        ("LABEL_0", "LABEL_1", "LABEL_2"),
        ("negative", "neutral", "positive"),
        ("entailment", "entailment", "neutral"),
        ("entailment", "neutral"),
    ],
)
def test_other_labels_are_refused(judge: Path, tmp_path: Path, labels: Sequence[str]) -> None:
    folder = relabel(copied(judge, tmp_path / "judge"), labels)
    with pytest.raises(CheckpointError, match=f"judge is no judge: .*'{labels[0]}'.*expected entailment"):
        load(str(folder))


def test_what_is_no_judge(judge: Path, tmp_path: Path) -> None:
    pickled = copied(judge, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="safetensors only, never pickled"):
        load(str(pickled))
    bare = copied(judge, tmp_path / "bare")
    edit_json(bare / "config.json", num_hidden_layers=2)  # weights that the folder lacks
    with pytest.raises(CheckpointError, match="bare lacks"):
        load(str(bare))
    remote = copied(judge, tmp_path / "remote")
    (remote / "evil.py").write_text("raise SystemExit(7)\n")
    edit_json(
        remote / "config.json",
        model_type="evil",
        auto_map={"AutoConfig": "evil.C", "AutoModelForSequenceClassification": "evil.M"},
    )
    with pytest.raises(CheckpointError, match="cannot load the judge remote"):
        load(str(remote))
    torn = copied(judge, tmp_path / "torn")
    weights = (torn / "model.safetensors").read_bytes()
    (torn / "model.safetensors").unlink()
    (torn / "model.safetensors").write_bytes(weights[:100])
    with pytest.raises(CheckpointError, match="cannot load the judge torn"):
        load(str(torn))


def test_names_that_lead_nowhere(judge: Path) -> None:
    with pytest.raises(UsageError, match=r"no judge '\./nowhere'"):
        load("./nowhere")
    with pytest.raises(UsageError, match="no judge ''"):
        load("")
    with pytest.raises(UsageError, match="--revision goes with a hub id"):
        load(str(judge), "main")
    with pytest.raises(UsageError, match="name two revisions"):
        load("org/nli@main", "other")
    with pytest.raises(HubError, match="model org/nli at main is not in the cache"):
        load("org/nli@main")
    with pytest.raises(UsageError, match="no device 'cuda:77' here"):
        load(str(judge), device="cuda:77")


def test_a_judge_from_the_hub(judge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The config is read before weights are fetched, and the commit is what is recorded."""
    asked_for: list[tuple[str, str | None, bool]] = []
    wrong = relabel(copied(judge, tmp_path / "wrong"), ("a", "b", "c"))

    def fetch(
        name: str, revision: str | None, *, repo_type: str, patterns: Sequence[str]
    ) -> tuple[Path, str]:
        asked_for.append((name, revision, "*.safetensors" in patterns))
        assert repo_type == "model"
        assert not any(pattern.endswith((".bin", ".py", "*")) for pattern in patterns)
        return (wrong if name == "org/wrong" else judge), "c0ffee" * 6

    monkeypatch.setattr("pgbench.sources.hub.fetch", fetch)
    found = load("org/nli", "v2", device="cpu")
    assert (found.name, found.revision) == ("org/nli", "c0ffee" * 6)
    assert found.digest == load(str(judge), device="cpu").digest
    assert asked_for == [("org/nli", "v2", False), ("org/nli", "c0ffee" * 6, True)]
    with pytest.raises(CheckpointError, match="org/wrong is no judge"):
        load("org/wrong@main")
    assert asked_for[2:] == [("org/wrong", "main", False)]


def test_nan_is_no_answer(judge: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "nan"
    shutil.copytree(judge, folder)
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"] = weights["classifier.weight"] + float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="answers with nan"):
        asked(folder, [Pair(("yes",), "filler")])


@pytest.mark.parametrize(
    ("kind", "table", "stated", "expected"),
    [
        ("bert", 512, 10**30, 512),
        ("roberta", 514, 512, 512),
        ("roberta", 514, 10**30, 512),  # its table starts after the padding token
        ("deberta-v2", 512, 256, 256),
        ("t5", None, 10**30, 512),
        ("xlnet", -1, 1024, 1024),
    ],
)
def test_how_much_a_judge_reads(kind: str, table: int | None, stated: int, expected: int) -> None:
    config = SimpleNamespace(model_type=kind, max_position_embeddings=table, pad_token_id=1)
    assert _longest(config, SimpleNamespace(model_max_length=stated)) == expected
