"""The files of published numbers: what is read, and how a broken one is named."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from pgbench.errors import DataError
from pgbench.published.table import COLUMNS, read

GOOD = dict.fromkeys(COLUMNS, "") | {
    "benchmark": "B", "published_metric": "m", "published_split": "s", "value": "1.5", "unit": "%",
    "model": "M", "params": "3B", "precision": "unstated", "setting": "mix", "source": "a paper",
    "task": "gqa", "split": "testdev", "metric": "accuracy", "quant": "unstated", "match": "exact",
}  # fmt: skip


def written(folder: Path, **changed: str) -> Path:
    with (folder / "b.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerow(GOOD)
        table.writerow(GOOD | changed)
    return folder


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("no table")
    first, second = read(written(tmp_path, value="-2", resolution="448", group="setting=random"))
    assert (first.value, first.resolution, first.kind, first.note) == (1.5, None, None, "")
    assert (second.value, second.resolution, second.group) == (-2.0, 448, "setting=random")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"source": ""}, "source is empty"),
        ({"value": ""}, "value is empty"),
        ({"value": "nan"}, "value is 'nan'; expected a number"),
        ({"value": "1_0"}, "value is '1_0'; expected a number"),
        ({"resolution": "-448"}, "resolution is '-448'; expected pixels"),
        ({"kind": "tuned"}, "kind is 'tuned'; expected one of pt, mix, ft, chat"),
        ({"kind": "mix"}, "a kind without a family"),
        ({"family": "gemma"}, "family is 'gemma'"),
        ({"family": "paligemma", "kind": "mix", "tuned_on": "gqa"}, "tuned_on on a row"),
        ({"quant": "2bit"}, "quant is '2bit'"),
        ({"match": "maybe"}, "match is 'maybe'; expected one of exact, likely, none"),
        ({"match": "likely"}, "match is 'likely' without a reason"),
        ({"match": "none"}, "match is 'none' without a reason"),
        ({"split": ""}, "match is 'exact' without task, split and metric"),
        ({"group": "random"}, "group is 'random'; expected name=value"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(
    tmp_path: Path, changed: Mapping[str, str], says: str
) -> None:
    with pytest.raises(DataError, match=re.escape(f"published/b.csv, line 3: {says}")):
        read(written(tmp_path, **changed))


def test_a_row_of_another_length_or_header(tmp_path: Path) -> None:
    text = (written(tmp_path) / "b.csv").read_text()
    (tmp_path / "b.csv").write_text(text + "B,m\n")
    with pytest.raises(DataError, match=r"b\.csv, line 4: 2 cells; expected 23"):
        read(tmp_path)
    (tmp_path / "b.csv").write_text(text.replace("published_split", "splits", 1))
    with pytest.raises(
        DataError, match=r"b\.csv, line 1: the columns differ in \['published_split', 'splits'\]"
    ):
        read(tmp_path)
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(DataError, match=r"b\.csv, line 1: the columns differ"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a\xff\xfe", "line 2: not UTF-8: invalid start byte"),
        (b'"open', "line 2: not CSV: unexpected end of data"),
        (b'"a"b', "line 2: not CSV: "),
        (b"x" * 200_000, "line 2: not CSV: field larger than field limit"),
    ],
)
def test_a_file_that_is_no_table(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "b.csv").write_bytes(",".join(COLUMNS).encode() + b"\n" + content)
    with pytest.raises(DataError, match=re.escape(f"published/b.csv, {says}")):
        read(tmp_path)
