"""The TextVQA task: both layouts in their published schema, odd records, prompts, and gold."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import HubServer
from hypothesis import given
from hypothesis import strategies as st
from pgbench_tasks.textvqa import TASK, gold, prompt
from PIL import Image as PILImage

from pgbench.errors import DataError, HubError
from pgbench.metrics.vqa import paper_accuracy, textvqa_accuracy
from pgbench.types import DataRequest, Dataset, Profile, Sample

Record = dict[str, object]
PALIGEMMA = Profile("mix", "paligemma")
OFFICIAL = Profile("mix", "paligemma", style="official")
ANSWERS = ["nous les gosses", "dakota", "clos culombu", "dakota digital", "dakota"] * 2


def jpeg(shade: int) -> bytes:
    out = BytesIO()
    PILImage.new("RGB", (8, 6), (shade, 0, 0)).save(out, "JPEG")
    return out.getvalue()


def record(number: int, **changes: object) -> Record:
    """All fields of a record of TextVQA_0.5.1_val.json."""
    image_id = str(changes.get("image_id", f"{number:016x}"))
    fields: Record = {
        "question": "what is the brand of this camera?",
        "image_id": image_id,
        "image_classes": ["Camera"],
        "flickr_original_url": f"https://farm1.staticflickr.com/1/{image_id}_o.jpg",
        "flickr_300k_url": f"https://c1.staticflickr.com/1/{image_id}_z.jpg",
        "image_width": 1024,
        "image_height": 664,
        "answers": ANSWERS,
        "question_tokens": ["what", "is", "the", "brand", "of", "this", "camera"],
        "question_id": number,
        "set_name": "val",
        **changes,
    }
    return {key: value for key, value in fields.items() if value is not ...}


RECORDS = [
    record(34602, image_id="003a8ae2ef43b901", question="What does the NASA sign say?"),
    record(34603, image_id="003a8ae2ef43b901", question=" was steht auf dem Schild für „Größe“?  "),
    record(34604, image_id="0000000000000000"),
    record(34605, answers=...),
    record(34606, answers=[""] * 10),
]


def original(folder: Path, records: list[Record], split: str = "val") -> Path:
    """A data folder in the original layout."""
    document = {"dataset_type": split, "dataset_name": "textvqa", "dataset_version": "0.5.1", "data": records}
    images = folder / ("test_images" if split == "test" else "train_images")
    images.mkdir(parents=True, exist_ok=True)
    (folder / f"TextVQA_0.5.1_{split}.json").write_text(json.dumps(document, ensure_ascii=False), "utf-8")
    for one in records:
        if isinstance(one.get("image_id"), str) and "/" not in str(one["image_id"]):
            (images / f"{one['image_id']}.jpg").write_bytes(jpeg(9))
    return folder


SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("question_id", pa.int32()),
        ("question", pa.string()),
        ("question_tokens", pa.list_(pa.string())),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("image_width", pa.int32()),
        ("image_height", pa.int32()),
        ("flickr_original_url", pa.string()),
        ("flickr_300k_url", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("image_classes", pa.list_(pa.string())),
        ("set_name", pa.string()),
        ("ocr_tokens", pa.list_(pa.string())),
    ]
)
PRESENT = {"bytes": jpeg(9), "path": None}


def parquet(path: Path, records: list[Record]) -> Path:
    """A file with the columns of lmms-lab/textvqa."""
    rows = [{"image": PRESENT, "ocr_tokens": ["NASA"], **one} for one in records]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
    return path


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets-cache")


def from_files(folder: Path, split: str = "val") -> Dataset:
    return TASK.sources["files"](DataRequest(split, path=str(folder)))


def from_parquet(path: Path, split: str = "val") -> Dataset:
    return TASK.sources["hub"](DataRequest(split, path=str(path)))


def test_the_original_layout(tmp_path: Path) -> None:
    data = from_files(original(tmp_path / "d", RECORDS))
    assert [one.id for one in data.samples] == ["34602", "34603", "34604", "34605", "34606"]
    first, second, third, *rest = data.samples
    assert first.question == "What does the NASA sign say?"
    assert first.target == tuple(ANSWERS)
    assert first.images[0].name == "003a8ae2ef43b901.jpg"
    assert first.images[0].read() == jpeg(9)
    assert first.cluster == second.cluster == "003a8ae2ef43b901"
    assert third.cluster == "0000000000000000"
    assert [one.target for one in rest] == [None, None]
    assert (data.id, data.revision, data.missing, data.demo) == ("TextVQA_0.5.1_val.json", None, (), False)


def test_parquet_and_original_are_the_same_data(tmp_path: Path) -> None:
    ours = from_files(original(tmp_path / "d", RECORDS))
    path = parquet(
        tmp_path / "validation.parquet", [one | {"answers": one.get("answers")} for one in RECORDS]
    )
    theirs = from_parquet(path)
    assert theirs.digest == ours.digest
    assert theirs.id == "validation.parquet"
    for mine, other in zip(ours.samples, theirs.samples, strict=True):
        assert mine.images[0].read() == other.images[0].read()
        assert (mine.id, mine.question, mine.target, mine.cluster) == (
            other.id,
            other.question,
            other.target,
            other.cluster,
        )


def test_test_and_train_have_their_folders(tmp_path: Path) -> None:
    folder = original(tmp_path / "d", [record(1, answers=...)], "test")
    original(folder, [record(2)], "train")
    assert from_files(folder, "test").samples[0].target is None
    assert from_files(folder, "train").samples[0].images[0].read() == jpeg(9)
    assert not (folder / "val_images").exists()


@pytest.mark.parametrize("alias", ["val", "validation"])
def test_validation_is_another_name_for_val(tmp_path: Path, alias: str) -> None:
    assert from_files(original(tmp_path / "d", RECORDS), alias).id == "TextVQA_0.5.1_val.json"
    demo = TASK.sources["demo"](DataRequest(alias))
    assert demo.demo
    assert len(demo.samples) > 0


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (record(7, answers=ANSWERS[:9]), r"record 1 \(question_id 7\): field 'answers' has 9 answers"),
        (record(7, answers=[*ANSWERS, "x"]), "has 11 answers"),
        (record(7, answers=[None, *ANSWERS[1:]]), "field 'answers' should be text, got null"),
        (record(7, answers="dakota"), "field 'answers' should be a list of 10, got 'dakota'"),
        (record(7, question=...), r"\(question_id 7\): field 'question' is missing; there: answers, flickr"),
        (record(7, question=None), "field 'question' is null"),
        (record(7, question="\ud800"), "half a surrogate"),
        (record(7, image_id=...), r"record 1: field 'image_id' is missing"),
        (record(7, image_id=7), "field 'image_id' should be text, got 7"),
        (record(7, image_id="../../etc/passwd"), "no plain file name"),
        (record(7, image_id="a\0"), "no plain file name"),
        (record(7, question_id=...), "field 'question_id' is missing"),
        (record(7, question_id="x"), "should be a whole number, got 'x'"),
        (record(7, question_id=True), "should be a whole number"),
        (record(34602), "id 34602 occurs twice"),
    ],
)
def test_a_bad_record_is_named(tmp_path: Path, bad: Record, said: str) -> None:
    folder = original(tmp_path / "d", [RECORDS[0]])
    path = folder / "TextVQA_0.5.1_val.json"
    path.write_text(json.dumps({"data": [RECORDS[0], bad]}))
    with pytest.raises(DataError, match=said) as caught:
        from_files(folder)
    assert "\n" not in str(caught.value)


def test_missing_images_are_listed(tmp_path: Path) -> None:
    folder = original(tmp_path / "d", RECORDS)
    (folder / "train_images" / "003a8ae2ef43b901.jpg").unlink()
    assert from_files(folder).missing == ("34602", "34603")


def test_what_a_data_folder_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs --data DIR"):
        TASK.sources["files"](DataRequest("val"))
    folder = original(tmp_path / "d", RECORDS)
    with pytest.raises(
        DataError, match=r"TextVQA_0\.5\.1_test\.json is not in .*there: TextVQA_0\.5\.1_val\.json"
    ):
        from_files(folder, "test")
    for image in (folder / "train_images").iterdir():
        image.unlink()
    (folder / "train_images").rmdir()
    with pytest.raises(DataError, match="image folder train_images/ cannot be read"):
        from_files(folder)


@pytest.mark.parametrize("source", ["hub", "files", "demo"])
def test_an_unknown_split_offers_the_nearest(source: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown split 'vall'; did you mean val\?"):
        TASK.sources[source](DataRequest("vall"))


def test_a_parquet_folder_with_several_splits(tmp_path: Path) -> None:
    folder = tmp_path / "copy [1] *of*"  # characters that datasets would take for a pattern
    for part in range(2):
        parquet(folder / f"data/validation-0000{part}-of-00002.parquet", [record(part)])
    parquet(folder / "data/test-00000-of-00001.parquet", [record(9, answers=[""] * 10)])
    data = from_parquet(folder)
    assert [one.id for one in data.samples] == ["0", "1"]
    assert data.id == folder.name
    assert [one.target for one in from_parquet(folder, "test").samples] == [None]
    with pytest.raises(DataError, match=r"no train-\*\.parquet; there: data/test-00000"):
        from_parquet(folder, "train")
    (folder / "data/validation-00000-of-00002.parquet").unlink()
    with pytest.raises(DataError, match="1 of 2 parts are missing"):
        from_parquet(folder)


def test_rows_without_an_image(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "val.parquet",
        [
            record(1),
            record(2, image=None),
            record(3, image={"bytes": None, "path": None}),
            record(4, image={"bytes": None, "path": "pictures/4.jpg"}),
            record(5, image={"bytes": None, "path": "pictures/5.jpg"}),
            record(6, image={"bytes": None, "path": str(tmp_path / "pictures/4.jpg")}),
            record(7, image={"bytes": None, "path": "pictures/../../secret.jpg"}),
        ],
    )
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/4.jpg").write_bytes(b"four")
    data = from_parquet(path)
    assert data.missing == ("2", "3", "5", "6", "7")
    read = {one.id: one.images[0].read for one in data.samples}
    assert (read["1"](), read["4"]()) == (jpeg(9), b"four")
    for number in data.missing:
        with pytest.raises(OSError, match="no image|No such file") as caught:
            read[number]()
        assert str(tmp_path) not in str(caught.value)


def test_parquet_of_another_shape(tmp_path: Path) -> None:
    path = tmp_path / "val.parquet"
    pq.write_table(pa.table({"question": ["q"], "img": [b"x"]}), path)
    with pytest.raises(
        DataError, match="no column question_id, image_id, answers, image; there: question, img"
    ):
        from_parquet(path)
    plain = [{key: record(1)[key] for key in ("question_id", "question", "image_id", "answers")}]
    pq.write_table(pa.Table.from_pylist([{**plain[0], "image": jpeg(3)}]), path)  # bare bytes
    assert from_parquet(path).samples[0].images[0].read() == jpeg(3)
    pq.write_table(pa.Table.from_pylist([{**plain[0], "image": 7}]), path)
    with pytest.raises(DataError, match=r"val\.parquet cannot be read"):
        from_parquet(path)


def test_damaged_parquet(tmp_path: Path) -> None:
    data = parquet(tmp_path / "whole.parquet", RECORDS[:3]).read_bytes()
    for name, content in {"empty": b"", "short": data[:-9], "text": b"hello" * 9}.items():
        (tmp_path / f"{name}.parquet").write_bytes(content)
        with pytest.raises(DataError, match=f"{name}.parquet is not a whole parquet file"):
            from_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / "body.parquet").write_bytes(data[:8] + b"\xff" * 400 + data[408:])
    with pytest.raises(DataError, match=r"body\.parquet cannot be read.*download it again") as caught:
        from_parquet(tmp_path / "body.parquet")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="does not exist; expected a parquet file or a folder"):
        from_parquet(tmp_path / "none.parquet")


def test_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "hub/datasets/lmms-lab/textvqa"
    parquet(repository / "main/data/validation-00000-of-00001.parquet", RECORDS[:3])
    parquet(repository / "main/data/train-00000-of-00001.parquet", [record(1)])
    (repository / "main/textvqa.py").write_text("raise SystemExit('a dataset script was run')")
    parquet(repository / "v1/val.parquet", [record(8)])
    with HubServer(tmp_path / "hub") as hub:
        hub.use(monkeypatch, tmp_path / "cache")
        source = TASK.sources["hub"]
        data = source(DataRequest("val"))
        assert (data.id, data.revision) == ("lmms-lab/textvqa", hub.commit("datasets", "lmms-lab/textvqa"))
        assert [one.id for one in data.samples] == ["34602", "34603", "34604"]
        assert not any("train" in path or ".py" in path for _, path, _ in hub.requests)
        old = source(DataRequest("val", revision="v1"))
        assert (len(old.samples), old.revision) == (1, hub.commit("datasets", "lmms-lab/textvqa", "v1"))
        with pytest.raises(
            DataError, match=r"no test-\*\.parquet; there: data/train.*textvqa\.py.*never run"
        ):
            source(DataRequest("test"))
        with pytest.raises(HubError, match="no revision 'v2'"):
            source(DataRequest("val", revision="v2"))
        with pytest.raises(HubError, match="no dataset other/textvqa"):
            source(DataRequest("val", id="other/textvqa"))
        hub.use(monkeypatch, tmp_path / "cache", offline=True)
        assert source(DataRequest("val")).digest == data.digest
        hub.use(monkeypatch, tmp_path / "empty", offline=True)
        with pytest.raises(HubError, match="not in the cache and HF_HUB_OFFLINE is set"):
            source(DataRequest("val"))


def sample(question: str, target: tuple[str, ...] | None = None) -> Sample:
    return Sample("1", (), question, target)


def test_the_question_is_never_touched() -> None:
    question = "What does the NASA sign say about STS-51L?"
    assert prompt(sample(question), PALIGEMMA, "default") == f"answer en {question}"
    assert prompt(sample(question), OFFICIAL, "default") == question
    assert prompt(sample("  a  b\tc?\n"), PALIGEMMA, "default") == "answer en a  b\tc?"


ODD = st.sampled_from(
    ["yes", "Yes", "yes.", "the yes", "no", "No!", "two", "2", "", " ", "men's", "1,000", "."]
)


@given(st.lists(ODD | st.text(max_size=6), min_size=10, max_size=10))
def test_gold_reaches_the_ceiling(answers: list[str]) -> None:
    target = tuple(answers)
    text = gold(sample("q", target))
    assert text in target
    official = {one: textvqa_accuracy(prediction=one, answers=answers) for one in answers}
    assert official[text] == max(official.values())
    tied = [one for one in answers if official[one] == official[text]]
    assert paper_accuracy(prediction=text, answers=answers) == max(
        paper_accuracy(prediction=one, answers=answers) for one in tied
    )


def test_gold_without_references_is_empty() -> None:
    assert gold(sample("q")) == ""


def test_the_task_is_complete() -> None:
    assert (TASK.name, TASK.version, TASK.max_new_tokens) == ("textvqa", 1, 32)
    assert list(TASK.splits.items()) == [("val", 5000), ("test", 5734), ("train", 34602)]
    assert [one.name for one in TASK.metrics if one.primary] == [TASK.metrics[0].name]
    assert (TASK.pixels.antialias, TASK.pixels.text_len) == (True, 32)
    assert "Towards" in TASK.cite
    assert TASK.cite.count("{") == TASK.cite.count("}")
    mapping: Mapping[str, object] = TASK.sources
    assert set(mapping) == {"hub", "files", "demo"}


def test_importing_the_task_is_light() -> None:
    code = """
import sys, pgbench_tasks.textvqa
print({"torch", "transformers", "datasets", "huggingface_hub", "pandas", "numpy", "PIL"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"
