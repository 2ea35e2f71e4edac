"""`pgbench fetch` against a real HTTP server: sizes first, exactly the files of a run, proof offline."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import textvqa_layout
import tiny
from hub_server import HubServer, Mode, files

from pgbench.cli import invoke
from pgbench.errors import HubError

DATA, MODEL = "lmms-lab/textvqa", "org/tiny-paligemma2-3b-mix-28"
VALIDATION = ["data/validation-00000-of-00002.parquet", "data/validation-00001-of-00002.parquet"]
READ = {"README.md", *VALIDATION}
TASK, BOTH = ["--task", "textvqa"], ["--task", "textvqa", "--model", MODEL]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights in two files and an index, as the real ones have."""
    folder = tiny.checkpoint(tmp_path_factory.mktemp("model") / "whole", "paligemma2")
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="400KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    return folder


@pytest.fixture
def root(tmp_path: Path, checkpoint: Path) -> Path:
    root = tmp_path / "hub"
    model = root / "models" / MODEL / "main"
    shutil.copytree(checkpoint, model)
    (model / "pytorch_model.bin").write_bytes(b"pickle" * 99)
    (model / "README.md").write_text("card")
    data = root / "datasets" / DATA / "main"
    for number, name in enumerate(VALIDATION):
        textvqa_layout.parquet(data / name, [textvqa_layout.record(10 * number + k) for k in range(3)])
    textvqa_layout.parquet(data / "data/train-00000-of-00001.parquet", [textvqa_layout.record(99)])
    (data / "README.md").write_text("card")
    (data / "textvqa.py").write_text("raise SystemExit")
    return root


@pytest.fixture
def hub(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(root) as server:
        server.use(monkeypatch, tmp_path / "cache")
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache" / "datasets")
        yield server


@pytest.fixture(autouse=True)
def small_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """TextVQA as if six questions had been published."""
    from pgbench_tasks import textvqa

    monkeypatch.setitem(textvqa.SPLITS, "val", 6)


def fetched(hub: HubServer) -> set[str]:
    """The files whose content was sent."""
    return {
        path.split("/resolve/")[1].partition("/")[2] for verb, path, _ in hub.requests if sent(verb, path)
    }


def sent(verb: str, path: str) -> bool:
    return verb == "GET" and "/resolve/" in path


def document(capsys: Capture, *arguments: str, code: int = 0) -> Any:
    assert invoke(["fetch", *arguments, "--json"]) == code, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refused(capsys: Capture, *arguments: str) -> str:
    """The one line of a refusal, after which nothing may stand on stdout."""
    assert invoke(["fetch", *arguments, "--json"]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("pgbench: ")]
    assert captured.out == ""
    assert len(lines) == 1
    return lines[0]


# Sizes first


def test_sizes_come_first_and_nothing_is_downloaded(hub: HubServer, root: Path, capsys: Capture) -> None:
    found = document(capsys, *BOTH, "--dry-run")
    data, model = found["repositories"]
    assert {file["path"] for file in data["files"]} == READ
    assert (data["id"], data["commit"]) == (DATA, hub.commit("datasets", DATA))
    assert (model["id"], model["commit"]) == (MODEL, hub.commit("models", MODEL))
    folder = root / "models" / MODEL / "main"
    read = {path.name for path in folder.iterdir() if path.suffix in (".json", ".safetensors")}
    assert {file["path"] for file in model["files"]} == read
    assert model["bytes"] == sum((folder / name).stat().st_size for name in read)
    assert model["to_download"] == model["bytes"] - (folder / "config.json").stat().st_size
    assert found["bytes"] == data["bytes"] + model["bytes"]
    assert fetched(hub) == {"config.json"}  # which decides whether the weights are wanted at all
    assert "command" not in found


def test_what_does_not_fit_is_refused_after_its_size_is_shown(
    hub: HubServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**6, 10**6 - 20, 20))
    assert invoke(["fetch", *TASK]) == 2
    captured = capsys.readouterr()
    assert "validation-00000-of-00002.parquet" in captured.out
    assert "bytes are needed and 20 are free" in captured.err
    assert fetched(hub) == set()


def test_unpacking_is_counted_and_one_disk_holds_both(hub: HubServer, capsys: Capture) -> None:
    space = document(capsys, *TASK, "--dry-run")["space"]
    assert 0 < space["download"] == space["unpacking"] < space["free"]


# Exactly the files of a run, and proof without the hub


def test_the_files_of_a_run_come_and_open_offline(
    hub: HubServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = document(capsys, *BOTH)
    assert {"pytorch_model.bin", "textvqa.py", "data/train-00000-of-00001.parquet"} & fetched(hub) == set()
    assert fetched(hub) >= {*READ, "config.json", "tokenizer.json"}
    assert found["data"]["samples"] == found["data"]["published"] == 6
    assert found["checkpoint"]["weight_files"] > 1
    assert found["checkpoint"]["tensors"] > 20
    commits = hub.commit("datasets", DATA), hub.commit("models", MODEL)
    command = found["command"].split()
    assert command[:4] == ["HF_HUB_OFFLINE=1", "pgbench", "run", "--task"]
    assert (command[command.index("--data-revision") + 1], command[-1]) == (
        commits[0],
        f"{MODEL}@{commits[1]}",
    )
    hub.stop()
    hub.use(monkeypatch, tmp_path / "cache", offline=True)
    more = ["--dtype", "float32", "--device", "cpu", "--out", str(tmp_path / "out"), "--json"]
    assert invoke([*command[2:], *more]) == 0  # the printed command works
    assert json.loads(capsys.readouterr().out)["record"]["spec"]["source"]["revision"] == commits[0]
    named = ["run", "--task", "textvqa", "--source", "hub", "--backend", "oracle"]
    assert invoke([*named, "--out", str(tmp_path / "named"), "--json"]) == 0  # so does the branch's name


def test_opening_asks_the_hub_nothing(hub: HubServer) -> None:
    from pgbench_tasks.textvqa import TASK

    from pgbench import fetch
    from pgbench.types import DataRequest

    def open_it() -> int:
        return len(TASK.sources["hub"](DataRequest("val")).samples)

    plans = fetch.planned(open_it)
    with pytest.raises(HubError, match=r"only in part|not in the cache"):
        fetch.opened(open_it, plans)  # planned, and not here yet
    fetch.download(plans[0])
    hub.requests.clear()
    assert fetch.opened(open_it, plans) == 6
    assert hub.requests == []


def test_the_second_time_nothing_is_downloaded(hub: HubServer, capsys: Capture) -> None:
    assert document(capsys, *BOTH)["downloaded"] > 0
    hub.requests.clear()
    assert invoke(["fetch", *BOTH]) == 0
    said = capsys.readouterr().out
    assert "nothing to download: all of it is here" in said
    assert "downloaded nothing" in said
    assert fetched(hub) == set()


def test_another_revision_is_pinned(hub: HubServer, root: Path, capsys: Capture) -> None:
    old = root / "datasets" / DATA / "old"
    for number, name in enumerate(VALIDATION):
        textvqa_layout.parquet(old / name, [textvqa_layout.record(number)])
    found = document(capsys, *TASK, "--data-revision", "old", code=3)  # two questions, not six
    assert found["repositories"][0]["commit"] == hub.commit("datasets", DATA, "old")
    assert found["data"]["samples"] == 2


def test_a_split_of_another_size_than_published_exits_with_3(
    hub: HubServer, root: Path, capsys: Capture
) -> None:
    last = root / "datasets" / DATA / "main" / VALIDATION[1]
    textvqa_layout.parquet(last, [textvqa_layout.record(77)])
    assert invoke(["fetch", *TASK]) == 3
    assert "has 4 samples here, 6 as published" in capsys.readouterr().err


# What goes wrong


def test_a_damaged_file_is_found_and_mended(hub: HubServer, capsys: Capture, tmp_path: Path) -> None:
    document(capsys, *BOTH)
    here = files(tmp_path / "cache" / "hub")
    (weights,) = [path for path in here if "/snapshots/" in path and "model-00001-of-" in path]
    blob = (tmp_path / "cache" / "hub" / weights).resolve()
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # the size stays
    found = document(capsys, *BOTH)
    assert [Path(path).name for path in found["mended"]] == [Path(weights).name]
    assert (tmp_path / "cache" / "hub" / weights).read_bytes() == content


def test_a_cut_file_is_downloaded_again(hub: HubServer, capsys: Capture, tmp_path: Path) -> None:
    document(capsys, *TASK)
    (part,) = [path for path in files(tmp_path / "cache" / "hub") if path.endswith(VALIDATION[0])]
    blob = (tmp_path / "cache" / "hub" / part).resolve()
    content = blob.read_bytes()
    blob.write_bytes(content[:100])
    assert document(capsys, *TASK)["downloaded"] == len(content)
    assert (tmp_path / "cache" / "hub" / part).read_bytes() == content


def test_weights_that_contradict_their_index_are_refused(hub: HubServer, root: Path, capsys: Capture) -> None:
    index = root / "models" / MODEL / "main" / "model.safetensors.index.json"
    places = json.loads(index.read_text())
    places["weight_map"]["ghost.weight"] = "model-00001-of-00009.safetensors"
    index.write_text(json.dumps(places))
    assert "model-00001-of-00009.safetensors cannot be read: No such file" in refused(
        capsys, "--model", MODEL
    )
    real = next(iter(json.loads(index.read_text())["weight_map"].values()))
    places["weight_map"]["ghost.weight"] = real
    index.write_text(json.dumps(places))
    assert f"first: ghost.weight of {real}" in refused(capsys, "--model", MODEL)


def test_cut_weights_are_refused_although_the_hub_lists_them_so(
    hub: HubServer, root: Path, capsys: Capture
) -> None:
    weights = next((root / "models" / MODEL / "main").glob("model-00001-*"))
    weights.write_bytes(weights.read_bytes()[:-7])
    assert "its header describes" in refused(capsys, "--model", MODEL)


def test_what_is_no_paligemma_is_refused_before_its_weights(
    hub: HubServer, root: Path, capsys: Capture
) -> None:
    (root / "models" / MODEL / "main" / "config.json").write_text('{"model_type": "llava"}')
    assert "is a 'llava' checkpoint" in refused(capsys, "--model", MODEL, "--dry-run")
    assert fetched(hub) == {"config.json"}


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("gated", "is gated and no login"),
        ("private", "or it is private (401)"),
        ("forbidden", "refused"),
        ("down", "503"),
    ],
)
@pytest.mark.parametrize("what", [["--task", "textvqa"], ["--model", MODEL]], ids=["data", "model"])
def test_refusals_are_one_line(
    hub: HubServer, capsys: Capture, mode: Mode, said: str, what: list[str]
) -> None:
    hub.modes |= {DATA: mode, MODEL: mode}
    assert said in refused(capsys, *what)


def test_no_network_is_one_line(
    hub: HubServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    document(capsys, *TASK)
    hub.stop()
    assert "run it again" in refused(capsys, *TASK)
    hub.use(monkeypatch, tmp_path / "cache", offline=True)
    assert "HF_HUB_OFFLINE is set" in refused(capsys, *TASK)


def test_a_mirrors_password_is_not_printed(
    hub: HubServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HF_ENDPOINT may be the address of a mirror with a login in it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.url.replace("http://", "http://ann:secret@"))
    hub.modes[DATA] = "gated"
    assert f"accept its licence at {hub.url}/datasets" in refused(capsys, *TASK)
    hub.stop()
    said = refused(capsys, *TASK)
    assert f"the connection to {hub.url} broke" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to fetch: give --task"),
        (["--model", "tiny-gemma2"], "tiny-gemma2 reads nothing from the hub"),
        (["--task", "textvqq"], "did you mean textvqa"),
        (["--task", "textvqa", "--split", "dev"], "unknown split"),
        (["--task", "textvqa", "--revision", "main"], "--revision goes with --model"),
        (["--model", MODEL, "--split", "val"], "go with --task"),
        (["--model", f"{MODEL}@a", "--revision", "b"], "two revisions"),
        (["--model", f"{MODEL}@v9"], "no revision 'v9' (404)"),
        (["--task", "textvqa", "--data-id", "no/such"], "no dataset no/such"),
        (["--task", "textvqa", "--split", "test"], "has none of the files that are read"),
    ],
)
def test_mistakes(hub: HubServer, capsys: Capture, arguments: list[str], said: str) -> None:
    assert said in refused(capsys, *arguments)


def arrived(cache: Path) -> set[str]:
    """The names of whole files in the snapshot, as the repository has them."""
    return {path.partition("snapshots/")[2].partition("/")[2] for path in files(cache)}


def kept(cache: Path, name: str) -> bool:
    """Whether this file of the data set is whole in the cache; several are on their way at a time."""
    return any(path.endswith(name) and "datasets--" in path and "snapshots" in path for path in files(cache))


def test_a_killed_fetch_goes_on(hub: HubServer, tmp_path: Path, capsys: Capture) -> None:
    """SIGKILL while the second of two files is on its way: the first is not sent again."""
    hub.held[VALIDATION[1]] = threading.Event()
    environment = hub.environment(tmp_path / "cache")
    command = [sys.executable, "-m", "pgbench", "fetch", *TASK]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        cache = tmp_path / "cache" / "hub"
        deadline = time.monotonic() + 60
        while not all(kept(cache, name) for name in ("README.md", VALIDATION[0])):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    hub.held.pop(VALIDATION[1]).set()
    time.sleep(0.1)  # the thread that held it ends
    hub.requests.clear()
    assert document(capsys, *TASK)["data"]["samples"] == 6
    assert fetched(hub) == {VALIDATION[1]}


# Every task


FILES = {
    "textvqa": ("lmms-lab/textvqa", VALIDATION, ["data/test-0.parquet"]),
    "vqav2": ("lmms-lab/VQAv2", ["data/validation-0.parquet"], ["data/testdev-0.parquet"]),
    "gqa": (
        "lmms-lab/GQA",
        ["testdev_balanced_images/testdev-0.parquet", "testdev_balanced_instructions/testdev-0.parquet"],
        ["testdev_all_images/testdev-0.parquet", "val_balanced_instructions/val-0.parquet"],
    ),
    "pope": ("lmms-lab/POPE", ["data/test-0.parquet"], []),
    "mmvp": ("lmms-lab-eval/MMVP", ["data/train-0.parquet"], []),
    "mmmu": ("lmms-lab/MMMU", ["data/validation-0.parquet"], ["data/dev-0.parquet"]),
    "cmmmu": ("lmms-lab/CMMMU", ["data/val-0.parquet"], ["data/test-0.parquet"]),
    "docci": ("not-lain/docci", ["data/test-0.parquet"], ["data/train-0.parquet"]),
    "scienceqa": ("lmms-lab/ScienceQA", ["ScienceQA-IMG/test-0.parquet"], ["ScienceQA-FULL/test-0.parquet"]),
}


@pytest.mark.parametrize("task", FILES)
def test_the_first_look_names_all_files_of_a_task(
    task: str, hub: HubServer, root: Path, capsys: Capture
) -> None:
    repo, read, other = FILES[task]
    shutil.rmtree(root / "datasets", ignore_errors=True)
    for name in [*read, *other]:
        path = root / "datasets" / repo / "main" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no parquet, and not to be opened")
    found = document(capsys, "--task", task, "--dry-run")
    (listed,) = found["repositories"]
    assert listed["id"] == repo
    assert [file["path"] for file in listed["files"]] == sorted(read)
    assert fetched(hub) == set()


def test_every_shipped_task_with_a_hub_copy_is_tried() -> None:
    from pgbench.registry import load_task, task_names

    shipped = [name for name, owner in task_names().items() if owner.partition(" ")[0] == "pgbench"]
    assert {name for name in shipped if "hub" in load_task(name).sources} == set(FILES)


def test_tasks_show_floors_licences_and_where_data_comes_from(capsys: Capture) -> None:
    assert invoke(["tasks"]) == 0
    listed = capsys.readouterr().out
    assert "floors   pair_accuracy 25.00, pair_accuracy_lenient 25.00, accuracy 50.00" in listed
    assert "licence  CC BY-NC-SA 4.0" in listed
    assert invoke(["tasks", "textvqa"]) == 0
    one = capsys.readouterr().out
    assert "pope" not in one
    assert "hub      lmms-lab/textvqa: validation[-_.]*parquet, validation/*.parquet, val" in one
    assert "a folder with TextVQA_0.5.1_val.json and train_images/" in one
    assert "accuracy: facebookresearch/mmf:" in one
    assert "singh2019towards" in one
    assert invoke(["tasks", "textvqa", "--json"]) == 0
    assert [task["name"] for task in json.loads(capsys.readouterr().out)] == ["textvqa"]
    assert invoke(["tasks", "textvqq"]) == 2
    assert "did you mean textvqa" in capsys.readouterr().err
