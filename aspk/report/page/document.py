"""A self-contained HTML page: style, scripts and data are embedded, and nothing else may run."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from matplotlib.figure import Figure

from aspk.report.figures import svg
from aspk.util.text import printable

_SCRIPTS = ("echarts/echarts.min.js", "charts.js", "table.js", "page.js")
_STYLES = ("page.css", "diagram.css")
# The page loads nothing and sends nothing; only the scripts shipped with aspk run.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@cache
def _asset(name: str) -> str:
    return (files("aspk.report") / "assets" / name).read_text(encoding="utf-8")


def style() -> str:
    """The style sheet of a page."""
    return "".join(map(_asset, _STYLES))


def document(title: str, body: Iterable[str], data: Mapping[str, Any]) -> str:
    """A page.

    Args:
        title: plain text.
        body: parts that are already HTML.
        data: what the scripts draw: finite numbers, strings, lists and mappings.
    """
    scripts = [_asset(name) for name in _SCRIPTS]
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}; script-src {allowed}">\n'
        f"<title>{text(title)} · aspk</title>\n<style>{style()}</style></head>\n"
        f"<body><main>\n{''.join(body)}</main>\n"
        f'<script type="application/json" id="data">{_json(data)}</script>\n'
        f"{''.join(f'<script>{script}</script>' for script in scripts)}\n</body></html>\n"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _json(data: Mapping[str, Any]) -> str:
    """JSON that cannot close the script element, whatever names it contains."""
    held = json.dumps(data, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return held.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def text(value: object) -> str:
    """Any value as escaped text."""
    return escape(printable(value))


def section(title: str, identifier: str, *parts: str) -> str:
    """A part of the page with a heading."""
    return f'<section id="{identifier}"><h2>{title}</h2>\n{"".join(parts)}</section>\n'


def folded(title: str, *parts: str, opened: bool = False) -> str:
    """A section that a click unfolds."""
    return f"<details{' open' if opened else ''}><summary>{title}</summary>{''.join(parts)}</details>\n"


def chart(identifier: str, figure: Figure, title: str, note: str = "") -> str:
    """A figure that scripts replace with a live one of the same name."""
    caption = f"<figcaption>{note}</figcaption>" if note else ""
    return (
        f'<figure id="{identifier}"><div class="still">{svg(figure, escape(title))}</div>'
        f'<div class="live" hidden></div>{caption}</figure>\n'
    )


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, marked: Sequence[int] = (), kind: str = ""
) -> str:
    """A table of cells that are already HTML."""
    lines = [f"<thead><tr>{_cells('th', header)}</tr></thead><tbody>"]
    for index, row in enumerate(rows):
        lines.append(f"<tr{' class=marked' if index in marked else ''}>{_cells('td', row)}</tr>")
    return f'<div class="scroll {kind}"><table>' + "\n".join(lines) + "</tbody></table></div>\n"


def _cells(tag: str, row: Sequence[str]) -> str:
    return "".join(f"<{tag}>{cell}</{tag}>" for cell in row)


def command(words: str) -> str:
    """A command with a copy button, which is shown only if scripts run."""
    return (
        f'<span class="command"><code>{text(words)}</code><button type="button" hidden>copy</button></span>'
    )
