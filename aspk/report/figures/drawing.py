"""What all figures share: colours, axes, and output formats."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from aspk.util.text import printable

FRONT, PALE, BAD, REFERENCE = "#3b82f6", "#8b949e", "#e5484d", "#d97706"
LINES = (FRONT, REFERENCE, "#2f9e6e", "#a855f7", BAD, PALE)
KINDS = {"conv": "#2f9e6e", "linear": FRONT, "attention": "#a855f7", "head": REFERENCE}
INK = "#1f2328"
FAR = 1e300  # larger values are drawn here, since the margins around them would overflow
_SENTINEL = "#010203"  # replaced by the page's text colour
SVG_INK = _SENTINEL
_DECADES = 12  # the most that a logarithmic axis labels


def label(text: object, longest: int = 40) -> str:
    """Text that matplotlib shows verbatim: dollar signs start no mathematics, long text is cut."""
    shown = printable(text)
    shown = shown if len(shown) <= longest else shown[: longest - 1] + "…"
    return shown.replace("\\", "\N{SET MINUS}").replace("$", r"\$")


def style_axes(ax: Axes, ink: str) -> None:
    """Thin axes in the page's text colour over a faint grid."""
    ax.set_facecolor("none")
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
    ax.tick_params(colors=ink, labelsize=8, which="both")
    ax.xaxis.label.set_color(ink)
    ax.yaxis.label.set_color(ink)
    ax.grid(visible=True, color=PALE, alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)


def style_legend(legend: Legend, ink: str) -> None:
    """Small text in the page's text colour."""
    for text in legend.get_texts():
        text.set_color(ink)
        text.set_fontsize(8)


def wide(values: Sequence[float]) -> bool:
    """Whether a logarithmic axis suits the values: positive, the largest over 8 times the smallest."""
    return bool(values) and min(values) > 0 and max(values) > 8 * min(values) and max(values) < FAR


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks at 1, 2 and 5 times powers of ten, or only at the powers if there are many."""
    exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    steps = (1, 2, 5) if len(exponents) <= 4 else (1,)
    found = [step * 10.0**power for power in exponents for step in steps]
    return [tick for tick in found if low <= tick <= high][:: max(1, len(exponents) // _DECADES)]


def log_axis(ax: Axes) -> None:
    """Make x logarithmic, with plain numbers at its ticks."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(FixedLocator(log_ticks(low, high)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())


def png(figure: Figure) -> bytes:
    """The figure as PNG on white."""
    figure.set_facecolor("white")
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def pdf(figure: Figure) -> bytes:
    """The figure as PDF, the same bytes each time."""
    figure.set_facecolor("white")
    file = io.BytesIO()
    FigureCanvasPdf(figure).print_pdf(file, metadata={"CreationDate": None})
    return file.getvalue()


def svg(figure: Figure, title: str, *, alone: bool = False) -> str:
    """The figure as an SVG element; on a page it takes the page's text colour.

    Args:
        figure: drawn with :data:`SVG_INK` for a page.
        title: read by screen readers; must be escaped already.
        alone: whether it is a file of its own, with text as outlines that look the same everywhere.
    """
    figure.set_facecolor("none")
    file = io.BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({"svg.fonttype": "path" if alone else "none", "svg.hashsalt": "aspk"}):
        FigureCanvasSVG(figure).print_svg(file, metadata=nothing)
    text = re.sub(r"<!--.*?-->", "", file.getvalue().decode(), flags=re.DOTALL)  # comments repeat the labels
    text = text[text.index("<svg") :].replace(_SENTINEL, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\n\s*", "\n", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
