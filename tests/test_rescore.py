"""Stored answers judged again: what a fresh run would score, or a refusal that says why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny import edit_json

from pgbench.cli import invoke
from pgbench.errors import StoreError
from pgbench.rescore.sidecars import answers_key, read, sidecars
from pgbench.samples import SAMPLES
from pgbench.store import read_record

# The oracle on the demo's drawings, now and then wrong; two samples lack their image.
TASK_FILE = """\
import dataclasses
from pgbench.metrics import mean
from pgbench.types import Image, Metric
from pgbench_tasks.textvqa import TASK as REAL

def drawn(request):
    found = REAL.sources["demo"](request)
    samples = {samples}
    return dataclasses.replace(found, samples=samples, missing=tuple(one.id for one in samples[5:7]))

def hub(request):
    if (request.id, request.revision) not in ((None, None), ("org/signs", "c0ffee")):
        raise ValueError(f"asked for {{request}}")
    request = dataclasses.replace(request, id=None, revision=None)
    return dataclasses.replace(drawn(request), id="org/signs", revision="c0ffee")

def gold(sample):
    return sample.target[len(sample.id) % 10] if sample.id[-1] != "t" else "nothing"

def repainted(sample):
    return dataclasses.replace(sample, images=(Image("x", lambda: b"other"),))

def gone(sample):
    def read():
        raise FileNotFoundError(2, "gone")
    return dataclasses.replace(sample, images=(Image("x", read),))

def kind(unit):
    (sample, text), *_ = unit
    return {{"sum": float(len(unit) == 2 and all(t in s.target for s, t in unit)), "n": 1.0, "invalid": 0.0}}

PAIRS = Metric("pairs", kind, mean, "tests", unit_of=lambda sample: sample.cluster)
EASY = dataclasses.replace(REAL.metrics[0], stat=lambda unit: {{"sum": 1.0, "n": 1.0, "invalid": 0.0}})

TASK = dataclasses.replace(REAL, name="judged", gold=gold, sources={{"demo": drawn, "hub": hub}}, {changes})
"""
ALL = "found.samples[:30]"
EASIER = "version=2, metrics=(EASY, PAIRS)"


@dataclass(frozen=True)
class House:
    """A task file and the runs made with it."""

    root: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def task(self) -> Path:
        return self.root / "judged.py"

    @property
    def out(self) -> Path:
        return self.root / "out"

    def write(self, changes: str = "version=1", samples: str = ALL) -> None:
        self.task.write_text(TASK_FILE.format(changes=changes, samples=samples))

    def run(self, *flags: str, out: Path | None = None) -> Path:
        command = ["run", "--task", str(self.task), "--backend", "oracle", "--max-failures", "9", "--json"]
        assert invoke([*command, "--out", str(out or self.out), *flags]) == 0
        return Path(json.loads(self.capsys.readouterr().out)["run"])

    def rescore(self, *flags: str, code: int = 0, task: bool = True) -> list[dict[str, Any]]:
        named = ["--task", str(self.task)] if task else []
        assert invoke(["rescore", str(self.out), "--json", *named, *flags]) == code
        runs = json.loads(self.capsys.readouterr().out)["runs"]
        assert isinstance(runs, list)
        return runs

    def one(self, *flags: str, code: int = 0, task: bool = True) -> dict[str, Any]:
        (found,) = self.rescore(*flags, code=code, task=task)
        return found


@pytest.fixture
def house(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> House:
    made = House(tmp_path, capsys)
    made.write()
    return made


def contents(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_record_of_no_samples_is_refused(house: House) -> None:
    """A damaged one: the runs after it are still judged."""
    folder = house.run("--limit", "12")
    house.run("--limit", "20")
    record = json.loads((folder / "record.json").read_text())
    edit_json(folder / "record.json", data={**record["data"], "selected": 0})
    house.write(EASIER)
    found = {one["run"]: one for one in house.rescore(code=3)}
    assert "answers, its record 0; restore" in found.pop(str(folder))["reason"]
    assert [one["state"] for one in found.values()] == ["rescored"]


def test_a_batch_of_a_number_beyond_memory_is_judged(house: House) -> None:
    path = house.run("--limit", "4", "--batch-size", "8") / SAMPLES
    path.write_bytes(path.read_bytes().replace(b'"batch":0,', b'"batch":%d,' % 10**14))
    house.write(EASIER)
    assert house.one()["state"] == "rescored"


# What is computed


@pytest.mark.parametrize("flags", [(), ("--limit", "12"), ("--metric", "exact_match"), ("--source", "hub")])
def test_the_scores_are_those_of_a_fresh_run(flags: tuple[str, ...], house: House) -> None:
    """Another metric, one of pairs, and failed samples."""
    folder = house.run(*flags)
    kept = contents(folder)
    house.write(EASIER)
    found = house.one()
    fresh = json.loads((house.run(*flags, out=house.root / "fresh") / "record.json").read_text())
    again = found["rescored"]
    assert found["state"] == "rescored"
    assert {name: again[name] for name in ("scores", "groups", "data", "primary")} == {
        name: fresh[name] for name in ("scores", "groups", "data", "primary")
    }
    assert again["scores"] != json.loads(kept["record.json"])["scores"] or flags[:1] == ("--metric",)
    path = Path(found["sidecar"])
    assert path.name == f"rescored-v2-{again['task_digest'][:8]}.json"
    assert contents(folder) == {**kept, path.name: path.read_bytes()}
    assert json.loads(path.read_text()) == again


def test_a_sidecar_says_what_it_is_of(house: House) -> None:
    folder = house.run()
    house.write(EASIER)
    again = house.one()["rescored"]
    assert (again["key"], again["answers"]) == (
        json.loads((folder / "record.json").read_text())["key"],
        answers_key(folder),
    )
    assert (again["schema"], again["task"], again["version"]) == (1, "judged", 2)
    assert {"pgbench", "pgbench code", "python"} <= again["versions"].keys()
    assert again["made"].startswith("20")
    assert str(house.root) not in json.dumps(again)


def test_the_hub_is_asked_for_the_same_commit(house: House) -> None:
    house.run("--source", "hub")
    house.write(EASIER)
    house.task.write_text(house.task.read_text().replace("(None, None), ", "(0, 0), "))
    assert house.one()["state"] == "rescored"


def test_a_changed_source_is_enough(house: House) -> None:
    """Its author may forget the version."""
    house.run()
    house.write("metrics=(EASY,)")
    found = house.one()
    assert found["state"] == "rescored"
    assert found["rescored"]["version"] == 1


def test_what_has_not_changed_is_left_alone(house: House) -> None:
    folder = house.run()
    kept = contents(folder)
    assert house.one()["state"] == "unchanged"
    assert contents(folder) == kept
    assert invoke(["rescore", str(folder), "--task", str(house.task)]) == 0
    assert "\n1 where the task has not changed" in house.capsys.readouterr().out
    found = house.one("--force")
    assert found["state"] == "rescored"
    assert found["rescored"]["scores"] == json.loads(kept["record.json"])["scores"]


def test_a_second_time_is_said_and_not_done(house: House) -> None:
    folder = house.run()
    house.write(EASIER)
    house.one()
    kept = contents(folder)
    found = house.one()
    assert found["state"] == "already"
    assert found["rescored"]["scores"]["accuracy"]["value"] is not None
    assert contents(folder) == kept


def test_other_answers_and_broken_sidecars_are_rescored_again(house: House) -> None:
    folder = house.run()
    house.write(EASIER)
    path = Path(house.one()["sidecar"])
    for spoil in (lambda: path.write_text("{}"), lambda: edit_json(path, answers="0" * 64)):
        spoil()
        assert house.one()["state"] == "rescored"
        assert read(path).answers == answers_key(folder)


def test_references_and_groups_may_change(house: House) -> None:
    house.run()
    changed = 'tuple(dataclasses.replace(one, target=("nothing",) * 10, groups={"all": "yes"})'
    house.write("version=2", samples=f"{changed} for one in {ALL})")
    again = house.one()["rescored"]
    assert again["groups"].keys() == {"all"}
    assert 0 < again["scores"]["accuracy"]["value"] < 1


def test_references_that_were_withdrawn_are_counted(house: House) -> None:
    house.run()
    blank = "dataclasses.replace(one, target=None) if place < 4 else one"
    house.write("version=2", samples=f"tuple({blank} for place, one in enumerate({ALL}))")
    again = house.one()["rescored"]
    assert (again["data"]["unscored"], again["scores"]["accuracy"]["n"]) == (4, 26)


def test_samples_that_came_are_counted_and_not_scored(house: House) -> None:
    house.run()
    house.write("version=2", samples="found.samples[:40]")
    data = house.one()["rescored"]["data"]
    assert (data["selected"], data["available"]) == (30, 40)


# What is refused


@pytest.mark.parametrize(
    ("changes", "samples", "said"),
    [
        ("version=2", "found.samples[1:30]", "is not in demo-signs any more; run again"),
        (
            "prompt=lambda sample, profile, variant: 'answer en ?'",
            ALL,
            "asks sample .* otherwise now; run again",
        ),
        ("max_new_tokens=7", ALL, "lets a model answer 7 tokens, it was 32; run again"),
        ("splits={'test': None}", ALL, "has no val default any more; run again"),
        ("variants=('plain',)", ALL, "has no val default any more; run again"),
    ],
)
def test_what_would_be_asked_otherwise_is_refused(
    changes: str, samples: str, said: str, house: House
) -> None:
    import re

    folder = house.run("--source", "demo")
    kept = contents(folder)
    house.write(changes, samples)
    found = house.one(code=3)
    assert found["state"] == "refused"
    assert re.search(said, found["reason"])
    assert contents(folder) == kept


@pytest.mark.parametrize(("change", "state", "code"), [("repainted", "refused", 3), ("gone", "rescored", 0)])
def test_other_pictures_are_refused_and_absent_ones_are_not(
    change: str, state: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The oracle looks at none, so the tiny checkpoint answers."""
    house = House(tmp_path, capsys)
    house.write()
    house.run("--backend", "paligemma", "--limit", "4", "--dtype", "float32")
    house.write("version=2", samples=f"tuple(map({change}, {ALL}))")
    assert house.one(code=code)["state"] == state


def test_one_refusal_stops_no_other_run(house: House) -> None:
    house.run("--limit", "12")
    whole = house.run()
    edit_json(whole / "record.json", schema=99)
    house.write(EASIER)
    found = house.rescore(code=3)
    assert sorted(one["state"] for one in found) == ["refused", "rescored"]


def test_a_task_that_is_not_there(house: House) -> None:
    house.run()
    found = house.one(task=False, code=3)
    assert "unknown task 'judged'" in found["reason"]
    assert "--task" in found["reason"]


def test_a_record_chooses_no_file_to_be_run(house: House) -> None:
    folder = house.run()
    record = json.loads((folder / "record.json").read_text())
    record["spec"]["task"] = str(house.task)
    (folder / "record.json").write_text(json.dumps(record))
    house.task.write_text("raise SystemExit('run')")
    assert "which a record never chooses" in house.one(task=False, code=3)["reason"]


def test_answers_that_are_lost_are_missed(house: House) -> None:
    folder = house.run()
    house.write(EASIER)
    stored = (folder / SAMPLES).read_bytes().splitlines(keepends=True)
    (folder / SAMPLES).write_bytes(b"".join(stored[:16]))
    assert "holds 16 answers, its record 30" in house.one(code=3)["reason"]
    (folder / SAMPLES).write_bytes(b"".join([*stored[:3], b"{}\n", *stored[4:]]))
    assert house.one(code=3)["state"] == "refused"


def test_an_unfinished_run_is_named(house: House) -> None:
    folder = house.run()
    (folder / "record.json").unlink()
    assert house.one()["state"] == "unfinished"


def test_no_run_at_all(house: House) -> None:
    house.out.mkdir()
    assert invoke(["rescore", str(house.out)]) == 2
    assert "there is no run below" in house.capsys.readouterr().err
    assert invoke(["rescore", str(house.root / "nowhere")]) == 2
    assert "there is no folder" in house.capsys.readouterr().err


# --data


@pytest.fixture
def custom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> House:
    """A run over a file of one's own records."""
    house = House(tmp_path, capsys)
    house.write()
    write_records(tmp_path / "mine.jsonl", 6)
    command = ["run", "--task", "custom", "--data", str(tmp_path / "mine.jsonl"), "--backend", "oracle"]
    assert invoke([*command, "--max-failures", "9", "--out", str(house.out)]) == 0
    capsys.readouterr()
    return house


def write_records(path: Path, count: int, answer: str = "a") -> None:
    rows = [
        {"id": number, "image": "x.png", "question": "what?", "answer": answer} for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_files_have_to_be_named(custom: House) -> None:
    found = custom.one("--force", code=3)
    assert "the answers belong to mine.jsonl (files); name it with --data PATH" in found["reason"]
    assert custom.one("--force", "--data", str(custom.root / "mine.jsonl"))["state"] == "rescored"


def test_the_data_that_fits_is_found(custom: House) -> None:
    """The file of the run's name first, then every other one; the first one's reason is told."""
    other, copy = custom.root / "other.jsonl", custom.root / "copy.jsonl"
    write_records(other, 2)
    assert (
        "sample 2 is not in other.jsonl any more"
        in custom.one("--force", "--data", str(other), code=3)["reason"]
    )
    write_records(copy, 6, answer="b")
    flags = ("--data", str(other), "--data", str(copy))
    again = custom.one("--force", *flags)["rescored"]
    assert again["scores"]["exact_match"]["value"] == 0.0
    mine = custom.one("--force", *flags, "--data", str(custom.root / "mine.jsonl"))["rescored"]
    assert mine["data"]["digest"] != again["data"]["digest"]


def test_a_file_that_is_not_there(custom: House) -> None:
    assert "does not exist" in custom.one("--force", "--data", "nowhere.jsonl", code=3)["reason"]


# What is shown


def test_the_table(house: House) -> None:
    house.run()
    house.run("--limit", "12")
    house.write(EASIER, samples="found.samples[10:30]")
    assert invoke(["rescore", str(house.out), "--task", str(house.task)]) == 3
    said = house.capsys.readouterr().out
    assert "2 REFUSED" in said
    assert [line.split()[:3] for line in said.splitlines() if line.startswith("run ")] == [
        ["run", "result", "task"]
    ]
    assert "any more; run again" in said
    house.write(EASIER)
    assert invoke(["rescore", str(house.out), "--task", str(house.task)]) == 0
    said = house.capsys.readouterr().out
    assert "judged v1 → v2" in said
    assert "2 rescored" in said


def test_show_tells_of_a_rescoring(house: House) -> None:
    folder = house.run()
    house.write(EASIER)
    path = Path(house.one()["sidecar"])

    def shown() -> str:
        assert invoke(["show", str(folder)]) == 0
        return house.capsys.readouterr().out

    assert f"with judged v2 ({path.stem[-8:]}): accuracy" in shown()
    assert invoke(["show", str(folder), "--json"]) == 0
    (again,) = json.loads(house.capsys.readouterr().out)["rescored"]
    assert (again["file"], again["fits"], again["version"]) == (path.name, True, 2)
    stored = (folder / SAMPLES).read_text()
    (folder / SAMPLES).write_text(stored.replace('"output":"nothing"', '"output":"else"', 1))
    assert "from other answers than are here now" in shown()
    (folder / SAMPLES).write_text(stored)
    edit_json(path, scores=7)
    assert "is no rescoring: scores" in shown()


@pytest.mark.parametrize("changes", [{"schema": 2}, {"answers": None}, {"scores": {"accuracy": 1}}], ids=str)
def test_a_broken_sidecar_is_no_sidecar(changes: dict[str, object], house: House) -> None:
    folder = house.run()
    house.write(EASIER)
    path = Path(house.one()["sidecar"])
    edit_json(path, **changes)
    with pytest.raises(StoreError, match="rescoring"):
        read(path)
    record = read_record(folder)
    assert record is not None
    found, broken = sidecars(folder, record)
    assert found == []
    assert len(broken) == 1


def test_of_another_run_it_does_not_fit(house: House) -> None:
    folder, other = house.run(), house.run("--limit", "12")
    house.write(EASIER)
    house.rescore()
    (path,) = folder.glob("rescored-*")
    (other / path.name).write_bytes(path.read_bytes())
    record = read_record(other)
    assert record is not None
    assert [one.fits for one in sidecars(other, record)[0]] == [False]
    edit_json(other / path.name, answers=answers_key(other))
    assert [one.fits for one in sidecars(other, record)[0]] == [False]
