"""Figures: what is drawn is right, the same every time, readable, and obeys no name in it."""

from __future__ import annotations

import io
import itertools
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree as ET

import planted
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgbench.errors import UsageError
from pgbench.records import Failure, PeakMemory, RunRecord, Score, Stack
from pgbench.registry import load_task
from pgbench.report.figures import (
    Figure,
    canvas,
    cells,
    deltas,
    draw,
    drawing,
    plots,
    resolution,
    save,
    tradeoff,
)
from pgbench.report.figures.front import front, steps
from pgbench.report.figures.labels import Box, place
from pgbench.report.figures.letters import distinct, drawable, shortened
from pgbench.report.figures.scene import Panel, Point, Scene, Sketch
from pgbench.stats import wilson
from pgbench.store import read_record

GIB = 1 << 30
H100 = Stack("paligemma", planted.VERSIONS, device="cuda", device_name="NVIDIA H100")
TASKS = {name: load_task(name) for name in ("textvqa", "pope", "mmvp")}
HOSTILE = (
    "<script>alert(1)</script>",
    "$\\nosuch{1}$ & \\input{x}",  # no formula: to read it as one is an error
    "]]> --> <!-- \x1b[31m\n::error::x\x00\ud800￾",
    "中文模型-שלום-🤖é́",
    '" onload="alert(1)',
    "n" * 3_000,
)
Records = Mapping[str, RunRecord]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """A stored record of each of two tasks."""
    found = {}
    for task, samples in (("textvqa", planted.textvqa(20)), ("pope", planted.pope(24))):
        out = tmp_path_factory.mktemp(task)
        answers = planted.spoiled(planted.gold(task, samples), 5)
        planted.plant(out, samples, answers, task=task)
        record = read_record(next(out.rglob("record.json")).parent)
        assert record is not None
        found[task] = record
    return MappingProxyType(found)


def record(
    originals: Records,
    value: float = 0.6,
    point: str = "google/paligemma-3b-pt-224",
    *,
    task: str = "textvqa",
    gib: float = 6.0,
    speed: float | None = 10.0,
    half: float | None = 0.02,
    stack: Stack = H100,
    whole: bool = True,
    **axes: Any,
) -> RunRecord:
    """A record as asked, full and without doubts (a pre-trained checkpoint saw no benchmark)."""
    one = originals[task]
    low, high = (None, None) if half is None else (value - half, value + half)
    score = Score(
        value, low, high, half, 5_000, 5_000, 2_500, 0, 0, "none" if half is None else "clustered t"
    )
    peak = PeakMemory(int(gib * GIB) + GIB, "device allocated")
    data = replace(one.data, selected=5_000, available=5_000, published=5_000) if whole else one.data
    spec = replace(one.spec, checkpoint=planted.checkpoint(point, **axes))
    return replace(
        one,
        key=spec.key,
        spec=spec,
        stack=stack,
        data=data,
        scores={**one.scores, one.primary: score},
        cost=replace(one.cost, weight_bytes=int(gib * GIB), peak_memory=peak, samples_per_second=speed),
    )


def sweep(originals: Records, task: str = "textvqa") -> list[RunRecord]:
    """Two models x two resolutions x three levels: twelve points."""
    levels = (("none", 0.0, 6.0, 40.0), ("8bit", 0.005, 3.5, 15.0), ("4bit", 0.02, 2.4, 25.0))
    points = (("google/paligemma-3b-pt", 0.6, 1.0), ("google/paligemma2-3b-pt", 0.61, 1.04))
    return [
        record(
            originals,
            base - drop + (0.1 if px == 448 else 0.0),
            f"{name}-{px}",
            task=task,
            quant=quant,
            gib=gib * large,
            speed=speed / large / (2 if px == 448 else 1),
        )
        for name, base, large in points
        for px in (224, 448)
        for quant, drop, gib, speed in levels
    ]


def found(records: Sequence[RunRecord]) -> tuple[cells.Cell, ...]:
    return cells.of(records, TASKS)[0]


def panel(sketch: Sketch) -> Panel:
    assert sketch.scene is not None, sketch.caption
    return sketch.scene.panels[0]


@pytest.fixture(scope="module")
def figures(originals: Records) -> dict[str, Figure]:
    two = [*sweep(originals), *sweep(originals, "pope")]
    return {figure.name: figure for figure in draw(two, tasks=TASKS)}


def test_the_four_figures_are_drawn_with_a_panel_for_each_task(figures: dict[str, Figure]) -> None:
    assert list(figures) == [
        "accuracy-memory",
        "accuracy-throughput",
        "accuracy-resolution",
        "quantization-deltas",
    ]
    for figure in figures.values():
        assert figure.scene is not None
        assert [one.title for one in figure.scene.panels] == [
            "textvqa v1 · val, n = 5,000",
            "pope v1 · test, n = 5,000",
        ]
        assert "textvqa v1 · val: accuracy, n = 5,000, none failed" in figure.caption
        assert "95 % intervals" in figure.caption
    assert "NVIDIA H100, batch 64" in figures["accuracy-memory"].caption
    assert "most that was allocated on the device" in figures["accuracy-memory"].caption
    assert "samples per second on NVIDIA H100, batch 64" in figures["accuracy-throughput"].caption
    assert (
        "paligemma2-3b-pt-448, bf16: 7.24, 71.00 (95 % interval 69.00 to 73.00)"
        in figures["accuracy-memory"].alt
    )


def test_an_svg_can_stand_in_a_page_beside_others(figures: dict[str, Figure]) -> None:
    ids: list[str] = []
    for figure in figures.values():
        assert figure.svg.startswith("<svg ")
        root = ET.fromstring(figure.svg)
        tags = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert tags <= {"svg", "title", "desc", "defs", "g", "path", "use", "clipPath", "rect", "symbol"}
        assert root.get("role") == "img"
        attributes = {name for element in root.iter() for name in element.attrib}
        assert not {name for name in attributes if name == "style" or name.startswith("on")}
        targets = [element.get("{http://www.w3.org/1999/xlink}href") or "" for element in root.iter("{*}use")]
        targets += [f"#{name}" for name in re.findall(r"url\(#([^)]*)\)", figure.svg)]
        own = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        assert targets
        assert {target[1:] for target in targets} <= set(own)
        assert set((root.get("aria-labelledby") or "").split()) <= set(own)
        assert all(name.startswith(f"{figure.name}-") for name in own)
        ids += own
    assert len(ids) == len(set(ids))


def test_files_are_what_they_are_called(figures: dict[str, Figure], tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "beside").write_text("kept")
    one = figures["quantization-deltas"]
    written = save([one, replace(one, name="nothing", scene=None)], tmp_path / "new" / "folder")
    assert [path.name for path in written] == [f"{one.name}.{end}" for end in ("svg", "pdf", "png", "txt")]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        [*written, tmp_path / "beside"]
    )
    svg, pdf, png, text = (path.read_bytes() for path in written)
    assert svg.decode().startswith('<?xml version="1.0" encoding="UTF-8"?>\n<svg ')
    assert pdf.startswith(b"%PDF-")
    assert b"/FontFile2" in pdf, "letters are embedded, as TrueType"
    assert b"/Type3" not in pdf.replace(b" ", b"")
    assert not re.search(rb"CreationDate|matplotlib|Matplotlib", pdf + png + svg)
    assert Image.open(io.BytesIO(png)).width == round(canvas.PAGE * 300)
    assert text.decode() == one.caption + "\n"


def test_figures_go_where_they_were_sent_or_nowhere(figures: dict[str, Figure], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        UsageError, match=r"unknown figure format 'pgn'; did you mean png\? Available: pdf, png, svg"
    ):
        save(list(figures.values()), tmp_path / "out", ["pgn"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="is a file; expected a folder for figures"):
        save(list(figures.values()), tmp_path / "file")


SAME = """
import hashlib, sys
from pgbench.report.figures.canvas import paint
from pgbench.report.figures.scene import Panel, Point, Scene
points = tuple(Point(x, 50.0 + x, 48.0, 60.0, x % 3, f"4bit \\u4e2d {x}", x == 2) for x in range(1, 6))
panels = (Panel("a", "x (GiB)", "accuracy (%)", points, ((1.0, 51.0), (5.0, 55.0)), 100.0),)
for form in ("svg", "pdf", "png"):
    print(hashlib.sha256(paint(Scene("same", "scatter", panels, ("one", "two", "three")), form)).hexdigest())
"""


def test_two_processes_draw_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """This one, and one with other hashes and a user's settings."""
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nxtick.direction: in\naxes.facecolor: red\n")
    exec(SAME, {})
    own = capsys.readouterr().out
    run = subprocess.run(
        [sys.executable, "-c", SAME],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "2", "MATPLOTLIBRC": str(tmp_path)},
        timeout=120,
    )
    assert len(own.split()) == 3
    assert run.stdout == own


LAZY = """
import sys
from pathlib import Path
from pgbench.cli import invoke
from pgbench.report import methods, methods_text
from pgbench.report.figures import cells, draw, save
from pgbench.store import read_record
record = read_record(Path(sys.argv[1]))
methods_text.render(methods.of([record], {}))
cells.of([record], {})
draw([])
assert invoke(["show", sys.argv[1]]) == 0
assert invoke(["report", sys.argv[1]]) == 0
assert "matplotlib" not in sys.modules, "matplotlib was imported"
draw([record])
assert "matplotlib" not in sys.modules, "imported to draw nothing"
"""


def test_reports_without_figures_never_import_matplotlib() -> None:
    folder = Path(__file__).parent / "records" / "schema-2"
    command = [sys.executable, "-c", LAZY, str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr


def test_settings_of_others_are_neither_used_nor_changed(originals: Records) -> None:
    import matplotlib

    scene = tradeoff.memory(found(sweep(originals))).scene
    assert scene is not None
    expected = canvas.paint(scene, "svg")
    with matplotlib.rc_context({"font.size": 20.0, "xtick.direction": "in", "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert canvas.paint(scene, "svg") == expected
        assert dict(matplotlib.rcParams) == before


def hostile(originals: Records) -> list[RunRecord]:
    """Every hostile text as a checkpoint, as a split, a variant, a device, a sample and a reason."""
    records = []
    for number, name in enumerate(HOSTILE):
        for px, quant in itertools.product((224, 448), ("none", "4bit")):
            stack = replace(H100, device_name="".join(HOSTILE))
            made = record(originals, 0.5, f"{name}-pt-{px}", quant=quant, gib=1 + number, stack=stack)
            spec = replace(made.spec, split="".join(HOSTILE[:3]), variant="".join(HOSTILE[3:]))
            records.append(replace(made, spec=spec, failures=(Failure(name, name),)))
    return records


def test_hostile_names_are_harmless(originals: Records, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = found(hostile(originals))
        sketches = (tradeoff.memory(named), resolution.curves(named), deltas.differences(named, {}))
        drawn = [drawing._figure(sketch) for sketch in sketches]
        assert len(save(drawn[2:], tmp_path)) == 4
    assert [figure.scene is not None for figure in drawn] == [True] * 3
    for figure in drawn:
        tags = {element.tag.rpartition("}")[2] for element in ET.fromstring(figure.svg).iter()}
        assert tags <= {"svg", "title", "desc", "defs", "g", "path", "use", "clipPath", "rect", "symbol"}
        assert not re.search(r"<script|<!--|\x1b|\x00", figure.svg)
        assert re.fullmatch("[a-z0-9-]+", figure.name)
    assert "\x1b" not in (tmp_path / "quantization-deltas.txt").read_text(encoding="utf-8")
    assert all(path.parent == tmp_path for path in tmp_path.rglob("*"))


def test_letters_are_matplotlib_s_own() -> None:
    import matplotlib
    from matplotlib import font_manager

    with canvas.settings("x"):
        assert Path(font_manager.findfont("DejaVu Sans")).is_relative_to(matplotlib.get_data_path())


def test_letters_that_the_font_lacks_are_escaped() -> None:
    known = canvas.glyphs()
    assert drawable("paligemma–é α ²$", known) == "paligemma–é α ²$"
    assert drawable("中\n\x1b", known) == "\\u4e2d\\n\\x1b"
    assert drawable("שa", known) == "\\u05e9a", "set from right to left"
    assert drawable("e\u0301", known) == "e\\u0301", "a mark that stacks on a letter"
    assert shortened("a" * 50, 11) == "aaaaa…aaaaa"
    names = distinct([f"{'a' * 30}{number}{'b' * 30}" for number in range(3)], known)
    assert len(set(names)) == 3
    assert max(map(len, names)) <= 34


def labels_of(scene: Scene) -> Iterator[tuple[list[Box], Box, list[Box]]]:
    """For each panel: the boxes of its labels, of its axes and of its markers, as they are drawn."""
    from matplotlib.text import Annotation, Text

    with canvas.settings(scene.name):
        figure = canvas.painted(scene)
        figure.draw_without_rendering()
        for axes in figure.axes[: len(scene.panels)]:
            texts = [child for child in axes.get_children() if isinstance(child, Annotation)]
            boxes = [Text.get_window_extent(text) for text in texts]  # without the line to its point
            around = axes.get_window_extent()
            dots = [line for line in axes.get_lines() if line.get_marker() not in ("None", "none", None, "")]
            ends = [axes.transData.transform(line.get_xydata()[0]) for line in dots]  # type: ignore[index]
            yield (
                [Box(box.x0, box.y0, box.x1, box.y1) for box in boxes],
                Box(around.x0, around.y0, around.x1, around.y1),
                [Box(x - 2, y - 2, x + 2, y + 2) for x, y in ends],
            )


def crowd(seed: int, points: int) -> Scene:
    import random

    rng = random.Random(seed)
    made = []
    for number in range(points):
        near = 1 + number % 3 * 2 + rng.random()  # three crowds
        y = 50 + near + rng.random()
        made.append(
            Point(near, y, y - 3, y + 3, number % 5, f"4bit rest fp{16 + number}"[: 4 + number % 3 * 4])
        )
    return Scene("crowd", "scatter", (Panel("t", "x", "y", tuple(made), (), 100.0),), tuple("abcde"))


@pytest.mark.parametrize("seed", range(5))
def test_labels_of_twelve_points_do_not_overlap(seed: int) -> None:
    for boxes, inside, dots in labels_of(crowd(seed, 12)):
        assert len(boxes) == len(dots) == 12
        assert [pair for pair in itertools.combinations(boxes, 2) if pair[0].shared(pair[1]) > 0.5] == []
        assert [box for box in boxes for dot in dots if box.shared(dot) > 1.0] == []
        assert all(
            box.left >= 0 and box.shared(inside) > 0.9 * (box.right - box.left) * (box.top - box.bottom)
            for box in boxes
        )


def test_labels_of_the_sweep_do_not_overlap(figures: dict[str, Figure]) -> None:
    for name in ("accuracy-memory", "accuracy-throughput"):
        scene = figures[name].scene
        assert scene is not None
        for boxes, _, dots in labels_of(scene):
            assert len(boxes) == len(dots) == 12
            assert not any(one.shared(other) > 0.5 for one, other in itertools.combinations(boxes, 2))


def test_a_label_without_text_takes_no_place() -> None:
    boxes = place([(10.0, 10.0), (12.0, 10.0)], [(0.0, 0.0), (20.0, 6.0)], Box(0, 0, 100, 100))
    assert boxes[0] == (10.0, 10.0, 10.0, 10.0)
    assert boxes[1].right - boxes[1].left == pytest.approx(20.0)


def test_series_are_told_apart_without_colour() -> None:
    looks = [plots.style(number) for number in range(24)]
    assert len({look["marker"] for look in looks[:12]}) == 12
    assert len({(look["marker"], look["color"], str(look["linestyle"])) for look in looks}) == 24


def test_a_hollow_marker_is_empty_on_paper(originals: Records) -> None:
    """Looked at in grey: the middle of a plain marker is dark, of a hollow one white."""
    from PIL import Image

    made = (Point(1.0, 50.0, None, None, 0), Point(3.0, 50.0, None, None, 0, hollow=True))
    scene = Scene("hollow", "scatter", (Panel("t", "x", "y", made),), ("one",))
    with canvas.settings(scene.name):
        figure = canvas.painted(scene)
        figure.draw_without_rendering()
        ends = [figure.axes[0].transData.transform((point.x, point.y)) for point in made]
    picture = Image.open(io.BytesIO(canvas.paint(scene, "png"))).convert("L")
    grow = 300 / 72
    greys = [picture.getpixel((round(x * grow), round(picture.height - y * grow))) for x, y in ends]
    assert greys[0] < 120  # type: ignore[operator]
    assert greys[1] == 255


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=9), st.booleans(), st.booleans())
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]], x_up: bool, y_up: bool) -> None:
    def better(one: tuple[int, int], other: tuple[int, int]) -> bool:
        dx, dy = (one[0] - other[0]) * (1 if x_up else -1), (one[1] - other[1]) * (1 if y_up else -1)
        return dx >= 0 and dy >= 0 and (dx, dy) != (0, 0)

    expected = {
        index for index, point in enumerate(points) if not any(better(other, point) for other in points)
    }
    given_points = [(float(x), float(y)) for x, y in points]
    kept = front(given_points, x_up=x_up, y_up=y_up)
    assert set(kept) == expected
    assert [points[index][0] for index in kept] == sorted(points[index][0] for index in kept)


def test_steps_promise_no_more_than_was_measured() -> None:
    assert steps([(10.0, 62.0), (40.0, 60.0)], x_up=True) == ((10.0, 62.0), (10.0, 60.0), (40.0, 60.0))
    assert steps([], x_up=True) == ()


def test_the_front_of_the_sweep(originals: Records) -> None:
    sketch = tradeoff.memory(found(sweep(originals)))
    assert "textvqa v1 · val: paligemma-3b-pt-448 4bit, paligemma2-3b-pt-448 4bit, " in sketch.caption
    assert panel(sketch).front[0] == pytest.approx((3.4, 68.0))
    unknown = tradeoff.memory(cells.of(sweep(originals), {})[0])
    assert panel(unknown).front == ()
    assert "No front where it is not known which direction is better: textvqa" in unknown.caption
    down = replace(TASKS["textvqa"].metrics[0], direction="down")
    lower = {"textvqa": replace(TASKS["textvqa"], metrics=(down,))}
    least = panel(tradeoff.memory(cells.of(sweep(originals), lower)[0]))
    assert least.y_label == "accuracy (%), lower is better"
    assert len(least.front) == 1, "the smallest is also the lowest"


def test_a_front_of_one_point_is_no_line(originals: Records) -> None:
    both = [record(originals, 0.6, gib=2.0), record(originals, 0.5, quant="4bit", gib=6.0)]
    alone, line = (
        tradeoff.memory(found([replace(one) for one in some])) for some in (both, sweep(originals))
    )
    for sketch, drawn in ((alone, False), (line, True)):
        assert sketch.scene is not None
        with canvas.settings(sketch.name):
            (legend,) = canvas.painted(sketch.scene).legends
            assert ("Pareto front" in [one.get_text() for one in legend.get_texts()]) is drawn
        assert ("Dashed: " in sketch.caption) is drawn
    assert "Best on both axes, so that no front is drawn: textvqa v1 · val: paligemma-3b-pt" in alone.caption


def test_hollow_points_are_explained_and_off_the_front(originals: Records) -> None:
    good = [record(originals, 0.6, gib=6.0), record(originals, 0.58, quant="4bit", gib=2.0)]
    lost = record(originals, 0.7, quant="8bit", gib=1.0)
    lost = replace(lost, failures=(Failure("7", "broken\nimage"),))
    tiny = record(originals, 0.65, "google/paligemma-3b-pt-448", whole=False)
    seen = record(originals, 0.9, "google/paligemma-3b-mix-224")
    cap = replace(good[0], data=replace(good[0].data, selected=50), spec=replace(good[0].spec, limit=50))
    sketch = tradeoff.memory(found([*good, lost, tiny, seen, cap]))
    assert [point.hollow for point in panel(sketch).points] == [False, False, True, True, True, True]
    for words in (
        "1 of 5,000 samples failed and count as wrong (textvqa v1 · val, paligemma-3b-pt-224 8bit)",
        "INCOMPLETE SPLIT: 20 samples here, 5,000 as published",
        "CONTAMINATED: suspect: mix checkpoints",
        "LIMITED to 50 of 5,000 samples (--limit 50) (textvqa v1 · val, paligemma-3b-pt-224 bf16, limit 50)",
        "hollow points are on it only where all of a task's are",
    ):
        assert words in sketch.caption
    assert "broken" not in sketch.caption, "a reason is text from anywhere"
    assert max(y for _, y in panel(sketch).front) == 60.0
    alone = panel(tradeoff.memory(found([lost, tiny])))
    assert alone.front, "all of them hollow"


def test_a_drawing_of_demo_numbers_says_so_itself(originals: Records) -> None:
    good = [record(originals, 0.6, gib=6.0), record(originals, 0.58, quant="4bit", gib=2.0)]
    drawn = [replace(one, data=replace(one.data, demo=True)) for one in good]
    titles = [panel(tradeoff.memory(found(some))).title for some in (good, drawn, [good[0], drawn[1]])]
    assert [title.partition("n = 5,000")[2] for title in titles] == [
        "",
        " · DEMO NUMBERS",
        " · with DEMO NUMBERS",
    ]


def test_cells_of_one_name_are_told_apart(originals: Records) -> None:
    one = record(originals)
    other = replace(one, spec=replace(one.spec, batch=4, seed=3))
    again = replace(one, key="f" * 64)
    names = [cell.name for cell in found([one, other, again])]
    assert names[1] == "paligemma-3b-pt-224 bf16, batch 4, seed 3"
    assert names[2] == "paligemma-3b-pt-224 bf16, batch 64, seed 0, ffffffff"
    assert len(set(names)) == 3
    ids = ("a/x-pt-224", "b/x-pt-224")
    assert [cell.series for cell in found([record(originals, point=name) for name in ids])] == list(ids)
    revised = [record(originals, revision=digit * 40) for digit in "12"]
    assert [cell.series for cell in found(revised)] == [f"paligemma-3b-pt-224@{digit * 7}" for digit in "12"]


def test_what_cannot_be_drawn_is_named(originals: Records) -> None:
    slow = record(originals, speed=None)
    light = record(originals, quant="4bit", gib=0.0)
    light = replace(light, cost=replace(light.cost, peak_memory=PeakMemory(GIB, "process resident")))
    undefined = record(originals, quant="8bit")
    score = replace(undefined.scores["accuracy"], value=None)
    undefined = replace(undefined, scores={"accuracy": score})
    memory, speed, *_ = draw([slow, light, undefined, record(originals, point="a/b-pt-224")], tasks=TASKS)
    assert "Not drawn: textvqa v1 · val, paligemma-3b-pt-224 4bit (no weight bytes)" in memory.caption
    assert "since not every cell ran on a device that counts what is allocated" in memory.caption
    assert "textvqa v1 · val, paligemma-3b-pt-224 bf16 (no sample was timed)" in speed.caption
    assert "textvqa v1 · val, paligemma-3b-pt-224 8bit: accuracy is undefined" in memory.caption
    assert memory.scene is not None
    assert memory.scene.panels[0].x_label == "weights (GiB)"


def test_nothing_is_drawn_of_fewer_than_two_points(originals: Records) -> None:
    for drawn in (draw([]), draw([record(originals)], tasks=TASKS), draw([record(originals)], metric="f2")):
        for figure in drawn:
            assert figure.svg == ""
            assert figure.scene is None
            assert figure.caption.startswith("Nothing drawn: ")
    assert draw([])[0].caption == "Nothing drawn: there are no records."
    assert "accuracy has" not in draw([record(originals)], metric="f2")[0].caption
    assert "f2 has no score of that name" in draw([record(originals)], metric="f2")[0].caption
    two = [record(originals), record(originals, task="pope")]
    why = "Nothing drawn: no task has two cells with both a score and this cost."
    assert draw(two, tasks=TASKS)[0].caption == why, "said once, without a list of cells"
    many = [record(originals, point=f"a/m{number}-pt-224") for number in range(25)]
    assert tradeoff.memory(found(many)).caption.startswith("Nothing drawn: 25 checkpoints are more than")
    crowded = panel(tradeoff.memory(found(many[:20])))
    assert len(crowded.points) == 20
    assert {point.label for point in crowded.points} == {"bf16"}, "all of them equal, all on the front"
    steep = [record(originals, 0.6 - n / 100, point=f"a/m{n}-pt-224", gib=1.0 + n) for n in range(20)]
    assert [point.label for point in panel(tradeoff.memory(found(steep))).points] == ["bf16", *[""] * 19]


def test_speeds_of_two_devices_are_two_figures(originals: Records) -> None:
    other = replace(H100, device_name="NVIDIA A100")
    cpu = Stack("paligemma", planted.VERSIONS, device="cpu", threads=8)
    records = [record(originals, quant=q, stack=s) for s in (H100, other) for q in ("none", "4bit")]
    records.append(record(originals, stack=cpu))
    one, two, three = tradeoff.throughput(found(records))
    assert [sketch.name for sketch in (one, two, three)] == [f"accuracy-throughput-{n}" for n in (1, 2, 3)]
    assert "on NVIDIA H100, batch 64, warm-up excluded; speeds on other devices are in figures" in one.caption
    assert "on NVIDIA A100" in two.caption
    assert three.scene is None
    memory = tradeoff.memory(found(records[:4]))
    assert panel(memory).x_label == "weights (GiB)"
    assert "since the cells ran on several devices" in memory.caption
    batch = replace(records[1], spec=replace(records[1].spec, batch=2))
    assert (
        "since the cells ran with several batch sizes" in tradeoff.memory(found([records[0], batch])).caption
    )


def test_lines_join_checkpoints_of_one_model(originals: Records) -> None:
    records = sweep(originals)
    lonely = record(originals, point="google/paligemma-3b-pt-896", quant="fp4")
    sketch = resolution.curves(found([*records, lonely]))
    assert sketch.scene is not None
    assert sketch.scene.series[:2] == ("paligemma-3b-pt bf16", "paligemma-3b-pt 8bit")
    assert sketch.scene.ticks == ((0.0, "224"), (1.0, "448"))
    first = [point for point in panel(sketch).points if point.series == 0]
    assert [point.y for point in first] == [pytest.approx(60.0), pytest.approx(70.0)]
    assert first[1].x - first[0].x == pytest.approx(1.0)
    assert len({point.x for point in panel(sketch).points}) == 12, "bars side by side"
    assert "paligemma-3b-pt-896 fp4 (one resolution only)" in sketch.caption


@dataclass(frozen=True)
class Given:
    value: float
    low: float | None
    high: float | None


def test_deltas_are_from_bfloat16(originals: Records) -> None:
    records = sweep(originals)
    pairs = {(records[0].key, records[1].key): Given(-0.005, -0.012, 0.002)}
    sketch = deltas.differences(found(records), pairs)
    assert sketch.scene is not None
    assert sketch.scene.ticks[0] == (0.0, "paligemma-3b-pt-224 8bit")
    one, two = panel(sketch).points[:2]
    assert (one.x, one.low, one.high) == pytest.approx((-0.5, -1.2, 0.2))
    reach = 2 * 2**0.5
    assert (two.x, two.low, two.high) == pytest.approx((-2.0, -2.0 - reach, -2.0 + reach))
    assert "paired by sample, except of textvqa v1 · val, paligemma-3b-pt-224 4bit; " in sketch.caption
    assert "unpaired: made of the two cells' own intervals" in sketch.caption
    whole = {(records[0].key, one.key): Given(0.0, None, None) for one in records[1:3]}
    assert (
        deltas.differences(found(records[:3]), whole).caption.count(
            "Bars are 95 % intervals, paired by sample."
        )
        == 1
    )


def test_the_unpaired_interval_is_newcombe_s() -> None:
    """Newcombe 1998, table II, example (a), method 10: 56 of 70 against 48 of 80 is 0.0524 to 0.3339."""
    score = Score(48 / 80, *wilson(48 / 80, 80), None, 80, 80, 80, 0, 0)
    other = replace(score, value=56 / 70, low=wilson(56 / 70, 70)[0], high=wilson(56 / 70, 70)[1])
    blank: Any = None
    before, after = (cells.Cell(blank, "accuracy", one, "", "", "", (), "up") for one in (score, other))
    low, high = deltas.unpaired(before, after)
    assert (low, high) == pytest.approx((5.24, 33.39), abs=0.01)
    assert deltas.unpaired(replace(before, score=replace(score, low=None)), after) == (None, None)


def test_deltas_between_other_samples_are_not_drawn(originals: Records) -> None:
    plain = record(originals)
    limited = record(originals, quant="4bit")
    limited = replace(limited, data=replace(limited.data, selected=50))
    sketch = deltas.differences(found([plain, limited]), {})
    assert sketch.scene is None
    assert "no quantized cell has one in bfloat16 beside it" in sketch.caption
    assert sketch.caption.endswith(", with the same data.")
    lonely = deltas.differences(found([limited]), {})
    assert lonely == sketch
    float32 = record(originals, dtype="float32")
    assert deltas.differences(found([float32, limited]), {}) == sketch
    couple = [record(originals, point="a/b-pt-224", quant=quant) for quant in ("none", "8bit")]
    for cells_beside, why in (
        ([float32], "no run in bfloat16"),
        ([plain], "the run in bfloat16 is of other samples"),
    ):
        drawn = deltas.differences(found([*couple, *cells_beside, limited]), {})
        assert f"paligemma-3b-pt-224 4bit ({why})" in drawn.caption


def test_a_wide_range_of_speeds_has_a_logarithmic_axis() -> None:
    points = tuple(Point(x, 50.0, None, None, 0, "bf16") for x in (0.4, 3.0, 90.0))
    scene = Scene("wide", "scatter", (Panel("t", "samples per second", "y", points, (), 100.0),), ("one",))
    with canvas.settings(scene.name):
        axes = canvas.painted(scene).axes[0]
        assert axes.get_xscale() == "log"
        assert [tick.get_text() for tick in axes.get_xticklabels()] == "0.5 1 2 5 10 20 50 100".split()


def test_an_undrawn_sketch_has_no_picture() -> None:
    figure = drawing._figure(Sketch("x", "X", "Nothing drawn: so.", None), ["y"])
    assert (figure.svg, figure.caption) == ("", "Nothing drawn: so.")


def test_rows_and_legends_have_an_order_of_their_own(originals: Records) -> None:
    drawn = draw(sweep(originals)[2::-1], tasks=TASKS)
    scene = drawn[-1].scene
    assert scene is not None
    assert [name for _, name in scene.ticks] == ["paligemma-3b-pt-224 8bit", "paligemma-3b-pt-224 4bit"]
