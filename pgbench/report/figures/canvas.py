"""Scenes painted with matplotlib, without its global figures or settings: the same bytes every time."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pgbench.report.figures.letters import distinct, drawable, shortened
from pgbench.report.figures.scene import Panel, Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Format: TypeAlias = Literal["svg", "pdf", "png"]

COLUMN, PAGE = 3.35, 6.9  # inches: a column and the text width of a two-column page
_PANEL, _LINE = 2.25, 0.135  # inches: height of a panel's part, and of a line of the legend
_ACROSS = 3  # panels side by side
_FRAME, _BARE = 0.5, 0.2  # inches beside a panel, for its ticks and label, and without them
_UPRIGHT = 30  # letters along a panel's height
_LETTER = 0.056  # inches: the mean width of a letter of 6.5 points
INK, GREY = "#222222", "#777777"
# Okabe and Ito, Color Universal Design (2008), without yellow, which is hardly seen on paper.
COLOURS = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#56B4E9", "#8A5A00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
_SETTINGS: Mapping[Any, Any] = {  # matplotlib types its names one by one
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 7,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "figure.dpi": 72,  # so that places measured on the canvas are points, in every format
    "font.family": ["DejaVu Sans"],  # matplotlib's own: the same letters on every machine
    "font.size": 6.5,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "lines.markeredgewidth": 0.9,
    "lines.markersize": 4.5,
    "pdf.compression": 6,
    "pdf.fonttype": 42,  # TrueType: many publishers refuse Type 3
    "savefig.dpi": 300,
    "svg.fonttype": "path",  # no letter depends on the reader's fonts
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "text.usetex": False,
    "xtick.color": INK,
    "xtick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.color": INK,
    "ytick.labelsize": 6.5,
    "ytick.major.width": 0.6,
}
_UNDATED: Mapping[Format, Mapping[str, None]] = {
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


def paint(scene: Scene, form: Format) -> bytes:
    """The scene as a file of that format."""
    with settings(scene.name):
        figure = painted(scene)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, metadata=dict(_UNDATED[form]))
    return buffer.getvalue()


@contextlib.contextmanager
def settings(name: str) -> Iterator[None]:
    """Our settings, whatever a matplotlibrc says. The name of the figure salts the ids of its SVG."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_SETTINGS, "svg.hashsalt": f"pgbench {name}"})
        yield


def painted(scene: Scene) -> Figure:
    """The scene as a matplotlib figure, laid out; to be called within `settings`."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from pgbench.report.figures import plots

    known = glyphs()
    across = min(len(scene.panels), _ACROSS)
    down = -(-len(scene.panels) // across)
    names = distinct(scene.series, known)
    width = COLUMN if across == 1 else PAGE
    columns = max(1, min(len(names) + 2, int(width / (_LETTER * max(len(name) for name in names) + 0.45))))
    legend = 0.0 if scene.shape == "deltas" else _LINE * (-(-(len(names) + 2) // columns) + 1)
    high = plots.rows_height(scene) if scene.shape == "deltas" else _PANEL
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.04, wspace=0.02, hspace=0.02)
    figure = Figure(figsize=(width, down * high + legend), layout=layout)
    grid = figure.subplots(down, across, squeeze=False, sharey=scene.shape == "deltas").ravel()
    for axes in grid[len(scene.panels) :]:
        axes.set_axis_off()
    inside = (width - plots.names_width(scene)) / across - (_BARE if scene.shape == "deltas" else _FRAME)
    for axes, panel in zip(grid, scene.panels, strict=False):
        _entitle(axes, panel, known, max(12, int(inside / _LETTER)))
    plots.fill(scene, list(grid), known)
    if legend:
        plots.legend(figure, scene, names, columns)
    if scene.shape == "scatter":
        plots.label(figure, scene, list(grid), known)
    return figure


def _entitle(axes: Axes, panel: Panel, known: Collection[int], longest: int) -> None:
    """What the panel is, and what is along its axes, in as many letters as there is room for."""
    what, _, count = panel.title.rpartition(", ")
    axes.set_title("\n".join(shortened(drawable(line, known), longest) for line in (what, count) if line))
    axes.set_xlabel(shortened(drawable(panel.x_label, known), longest))
    axes.set_ylabel(shortened(drawable(panel.y_label, known), _UPRIGHT))


def glyphs() -> frozenset[int]:
    """The code points that the font has a glyph for."""
    from matplotlib import font_manager

    font = font_manager.get_font(font_manager.findfont("DejaVu Sans", fallback_to_default=True))
    return frozenset(font.get_charmap())
