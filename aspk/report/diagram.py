"""A network as a drawing: its parts from the image to the head, firing rates and shares of the energy."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from aspk.report.structure import Part, Step
from aspk.util.text import printable

WIDTH = 412  # of the drawing, in its own units: fits a phone's screen
_LINE, _HEAD, _SUM = 24, 26, 16  # heights of an operation, of a part's title, of an addition
_BOX, _RATE, _SHARE = (26, 190), (226, 40), (314, 40)  # left edge and width of the columns
_LETTER = 5.8  # approximate width of one in a box
_STREAM = 12  # where the stream runs


def diagram_svg(parts: Sequence[Part], title: str, *, steps: int, alone: bool = False) -> str:
    """The drawing as an SVG element.

    Args:
        parts: what :func:`~aspk.report.structure.network_parts` found.
        title: read by screen readers.
        steps: simulated steps T.
        alone: whether it is a file of its own, with its own colours, rather than part of a page.
    """
    widest = max((step.width for part in parts for step in part.steps), default=1) or 1
    most = max((step.share or 0.0 for part in parts for step in part.steps), default=0.0) or 1.0
    heads = {_STREAM - 8: f"image, T = {steps}", _RATE[0]: "firing rate", _SHARE[0]: "energy"}
    body, y = [_text(x, 12, said, "soft") for x, said in heads.items()], 18.0
    first = y
    for part in parts:
        body.append(_title(part, y))
        y += _HEAD
        for step in part.steps:
            body.append(_step(step, y, widest, most))
            y += _SUM if step.kind == "addition" else _LINE
    body.insert(0, f'<path class="stream" d="M{_STREAM} {first + 6:g}V{y - 6:g}"/>')
    name = escape(printable(title))
    space = ' xmlns="http://www.w3.org/2000/svg"' if alone else ""
    style = f"<style>{_style()}</style>" if alone else ""
    return (
        f'<svg{space} class="diagram" role="img" aria-label="{name}" viewBox="0 0 {WIDTH} {y + 4:g}" '
        f'width="{WIDTH}">{style}{"".join(body)}</svg>'
    )


def _style() -> str:
    return (files("aspk.report") / "assets" / "diagram.css").read_text(encoding="utf-8")


def _title(part: Part, y: float) -> str:
    constants = next((step.neurons for step in part.steps if step.neurons), "")
    said = f"<tspan class='soft'>  {escape(constants)}</tspan>" if constants else ""
    name = escape(printable(part.name))
    share = _text(_SHARE[0] + _SHARE[1] + 6, y + 17, _percent(part.share), "part") if part.share else ""
    return f'<text class="part" x="{_BOX[0]}" y="{y + 17:g}">{name}{said}</text>{share}'


def _step(step: Step, y: float, widest: int, most: float) -> str:
    if step.kind == "addition":
        middle = y + _SUM / 2
        return (
            f'<path class="stream" d="M{_BOX[0] + 14} {y:g}V{middle:g}H{_STREAM + 5}"/>'
            f'<circle class="sum" cx="{_STREAM}" cy="{middle:g}" r="5"/>'
            f'<path class="plus" d="M{_STREAM - 3} {middle:g}h6M{_STREAM} {middle - 3:g}v6"/>'
        )
    left, right = _BOX[0] + (14 if step.branch else 0), _BOX[0] + _BOX[1]
    top, height, width = y + 2, _LINE - 4, right - left
    kind = step.kind if step.kind in _KINDS else "other"
    middle, part = top + height / 2, width * step.width / widest
    way = f"M{_BOX[0] + 8} {y - 4:g}V{middle:g}h6" if step.branch else f"M{_STREAM} {middle:g}H{left:g}"
    link = f'<path class="stream" d="{way}"/>'
    filled = f'<rect class="fill {kind}" x="{left}" y="{top:g}" rx="3" width="{part:.1f}" height="{height}"/>'
    said = f"{step.label}  {step.detail}" if step.label and step.detail else step.label or step.detail
    tip = f"<title>{escape(printable(f'{step.part} {said} {step.neurons}'))}</title>"
    return (
        f"<g>{tip}{link}"
        f'<rect class="box {kind}" x="{left}" y="{top:g}" rx="3" width="{width}" height="{height}"/>'
        f"{filled if step.width else ''}{_fitted(left + 7, y + 16, said, width - 12)}"
        f"{_rate(step, y)}{_share(step, y, most)}</g>"
    )


_KINDS = ("conv", "linear", "attention", "head", "pooling", "mean")


def _rate(step: Step, y: float) -> str:
    if step.rate is None:
        return ""
    flag = " flag" if step.flag else ""
    said = _text(_RATE[0] + _RATE[1] + 5, y + 16, _percent(step.rate), f"number{flag}")
    return _bar(_RATE, y, step.rate, "rate") + said


def _share(step: Step, y: float, most: float) -> str:
    if step.share is None:
        return ""
    said = _text(_SHARE[0] + _SHARE[1] + 5, y + 16, _percent(step.share), "number")
    return _bar(_SHARE, y, step.share / most, "share") + said


def _percent(share: float) -> str:
    if 0 < share < 0.0005:
        return "< 0.1%"
    return f"{share:.0%}" if share >= 0.1 or not share else f"{share:.1%}"


def _bar(column: tuple[int, int], y: float, part: float, kind: str) -> str:
    left, width = column
    filled = width * min(part, 1.0)
    return (
        f'<rect class="track" x="{left}" y="{y + 8:g}" width="{width}" height="8" rx="2"/>'
        f'<rect class="{kind}" x="{left}" y="{y + 8:g}" width="{filled:.1f}" height="8" rx="2"/>'
    )


def _fitted(x: float, y: float, text: str, width: float) -> str:
    """Text that is condensed where it would not fit."""
    said = escape(printable(text))
    narrow = f' textLength="{width:g}" lengthAdjust="spacingAndGlyphs"' if len(text) * _LETTER > width else ""
    return f'<text class="name" x="{x:g}" y="{y:g}"{narrow}>{said}</text>'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(printable(text))}</text>'
