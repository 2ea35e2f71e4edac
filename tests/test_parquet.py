"""TextVQA's parquet copies: local files and folders, rows without images, damage, and the hub itself."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import HubServer
from pgbench_tasks.textvqa import TASK
from textvqa_layout import RECORDS, jpeg, original, parquet, record

from pgbench.errors import DataError, HubError
from pgbench.sources.parquet import parquet_rows, pick
from pgbench.types import DataRequest, Dataset


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets-cache")


def from_parquet(path: Path, split: str = "val") -> Dataset:
    return TASK.sources["hub"](DataRequest(split, path=str(path)))


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
    copy = tmp_path / "copy"
    path = parquet(
        copy / "val.parquet",
        [
            record(1),
            record(2, image=None),
            record(3, image={"bytes": None, "path": None}),
            record(4, image={"bytes": None, "path": "pictures/4.jpg"}),
            record(5, image={"bytes": None, "path": "pictures/5.jpg"}),
            record(6, image={"bytes": None, "path": str(copy / "pictures/4.jpg")}),
            record(7, image={"bytes": None, "path": "pictures/../../secret.jpg"}),
            record(8, image={"bytes": None, "path": "8" * 300}),
        ],
    )
    (copy / "pictures").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"another file of the user")
    (copy / "pictures/4.jpg").write_bytes(b"four")
    data = from_parquet(path)
    assert data.missing == ("2", "3", "5", "6", "7", "8")
    read = {one.id: one.images[0].read for one in data.samples}
    assert (read["1"](), read["4"]()) == (jpeg(9), b"four")
    for number in data.missing:
        with pytest.raises(OSError, match=r"no image|No such file|name too long") as caught:
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


def test_rows_are_streamed(tmp_path: Path) -> None:
    """With the optional columns that all files have, from any row, over more than one batch."""
    folder = tmp_path / "copy" / "data"
    folder.mkdir(parents=True)
    for part, extra in enumerate(({"x": 1, "y": 2}, {"x": 3})):
        rows = [{"id": 1500 * part + n, **extra} for n in range(1500)]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"val-0000{part}-of-00002.parquet")
    asked = DataRequest("val", path=str(tmp_path / "copy"))
    found = parquet_rows(asked, "a/b", ("val",), fields=("id",), images=(), optional=("y", "x", "z"))
    assert (found.columns, len(found)) == (("id", "x"), 3000)
    whole = [{"id": n, "x": 1 if n < 1500 else 3} for n in range(3000)]
    assert list(found.stream()) == list(found.fields("id", "x")) == whole
    assert list(found.stream(1400)) == whole[1400:]
    assert list(found.stream(3000)) == []


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


def test_a_full_disk_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/home/somebody/.cache")

    monkeypatch.setattr("datasets.load_dataset", full)
    with pytest.raises(DataError, match=r"no space is left for val\.parquet .*set HF_HOME") as caught:
        from_parquet(parquet(tmp_path / "val.parquet", RECORDS[:1]))
    assert "somebody" not in str(caught.value)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_cache_that_may_not_be_written_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A cache that is shared among the nodes of a cluster is often read-only there."""

    def refused(*args: object, **kwargs: object) -> None:
        raise OSError(code, "No", "/home/somebody/.cache/x.lock")

    monkeypatch.setattr("datasets.load_dataset", refused)
    with pytest.raises(DataError, match=r"val\.parquet cannot be unpacked.*set HF_DATASETS_CACHE") as caught:
        from_parquet(parquet(tmp_path / "val.parquet", RECORDS[:1]))
    assert "somebody" not in str(caught.value)


def test_many_threads_read_their_own_row(tmp_path: Path) -> None:
    rows = [record(number, image={"bytes": jpeg(number), "path": None}) for number in range(60)]
    samples = from_parquet(parquet(tmp_path / "val.parquet", rows)).samples
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda one: one.images[0].read(), samples)) == [jpeg(n) for n in range(60)]


def test_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    repository = tmp_path / "hub/datasets/lmms-lab/textvqa"
    parquet(repository / "main/data/validation-00000-of-00001.parquet", RECORDS[:3])
    parquet(repository / "main/data/train-00000-of-00001.parquet", [record(1)])
    (repository / "main/textvqa.py").write_text("raise SystemExit('a dataset script was run')")
    (repository / "main/README.md").write_text("licence: cc-by-4.0")
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
            DataError, match=r"no test-\*\.parquet; there: README.md, data/train.*textvqa\.py.*never run"
        ):
            source(DataRequest("test"))
        assert "No files matched" not in caplog.text  # our one line is enough
        with pytest.raises(HubError, match="no revision 'v2'"):
            source(DataRequest("val", revision="v2"))
        with pytest.raises(HubError, match="no dataset other/textvqa"):
            source(DataRequest("val", id="other/textvqa"))
        hub.use(monkeypatch, tmp_path / "cache", offline=True)
        assert source(DataRequest("val")).digest == data.digest
        hub.use(monkeypatch, tmp_path / "empty", offline=True)
        with pytest.raises(HubError, match="not in the cache and HF_HUB_OFFLINE is set"):
            source(DataRequest("val"))


def test_parquet_and_original_are_the_same_data(tmp_path: Path) -> None:
    ours = TASK.sources["files"](DataRequest("val", path=str(original(tmp_path / "d", RECORDS))))
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


@pytest.mark.parametrize(
    ("paths", "picked"),
    [
        (["data/validation-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], [0]),
        (["validation-00000-of-00002.parquet", "validation-00001-of-00002.parquet"], [0, 1]),
        (["val.parquet", "validate.parquet", "valley-0.parquet"], [0]),
        (["val_1.parquet", "val_2.parquet"], [0, 1]),
        (["default/validation/0000.parquet", "default/train/0000.parquet"], [0]),
        (["validation/0000.parquet", "val-0.parquet"], [0]),
        (["test.parquet", "train-validation.parquet"], []),
    ],
)
def test_which_files_are_the_validation_split(paths: list[str], picked: list[int]) -> None:
    assert pick(paths, ("validation", "val")) == [paths[index] for index in picked]


def test_a_missing_part_of_a_split_is_an_error() -> None:
    with pytest.raises(DataError, match=r"1 of 3 parts are missing: data/val-00001-of-00003\.parquet"):
        pick(["data/val-00000-of-00003.parquet", "data/val-00002-of-00003.parquet"], ("val",))


@pytest.mark.parametrize("name", ["test-00000-of-00001.parquet", "train.parquet", "testdev_0.parquet"])
def test_one_file_of_another_split_is_refused(tmp_path: Path, name: str) -> None:
    parquet(tmp_path / name, RECORDS[:3])
    with pytest.raises(DataError, match=f"{name} is of split t[a-z]+, not val: add --split"):
        TASK.sources["hub"](DataRequest("val", path=str(tmp_path / name)))


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    parquet(tmp_path / "some.parquet", RECORDS[:1])
    pq.write_table(pq.read_table(tmp_path / "some.parquet").slice(0, 0), tmp_path / "none.parquet")
    with pytest.raises(DataError, match=r"none\.parquet has no rows"):
        TASK.sources["hub"](DataRequest("val", path=str(tmp_path / "none.parquet")))


# The unpacked copy in the cache of datasets


def unpacked_copy(tmp_path: Path) -> Path:
    """Its file, as a new one of the same content: the old one may be mapped still, and must not be cut."""
    (arrow,) = (tmp_path / "datasets-cache").rglob("*.arrow")
    content = arrow.read_bytes()
    arrow.unlink()
    arrow.write_bytes(content)
    return arrow


@pytest.mark.parametrize("left", [0, 200, -300])
def test_a_damaged_unpacked_copy_is_made_anew(tmp_path: Path, left: int) -> None:
    """Downloading again, the advice for a damaged parquet file, would not mend it."""
    path = parquet(tmp_path / "copy/validation-0.parquet", [record(n) for n in range(5)])
    digest = from_parquet(path.parent).digest
    arrow = unpacked_copy(tmp_path)
    arrow.write_bytes(arrow.read_bytes()[:left])
    again = from_parquet(path.parent)
    assert (again.digest, len(again.samples)) == (digest, 5)
    assert again.samples[4].images[0].read() == jpeg(9)


def test_an_unpacked_copy_that_lost_rows_is_made_anew(tmp_path: Path) -> None:
    """An arrow stream that ends between two batches reads without an error."""
    path = parquet(tmp_path / "copy/validation-0.parquet", [record(n) for n in range(5)])
    digest = from_parquet(path.parent).digest
    arrow = unpacked_copy(tmp_path)
    with pa.ipc.open_stream(arrow.read_bytes()) as stream:
        table = stream.read_all()
    with pa.ipc.new_stream(arrow, table.schema) as stream:
        stream.write_table(table.slice(0, 3))
    again = from_parquet(path.parent)
    assert (again.digest, len(again.samples)) == (digest, 5)
