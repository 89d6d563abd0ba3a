"""Self-contained HTML pages of energy accounts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from aspk.energy import ESTIMATE
from aspk.report.style import STYLE
from aspk.util.text import printable

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # the page loads nothing and runs nothing


def table_row(tag: str, cells: Sequence[str]) -> str:
    """A row of a table."""
    return "<tr>" + "".join(f"<{tag}>{escape(printable(cell))}</{tag}>" for cell in cells) + "</tr>"


def html_page(title: str, parts: Sequence[str]) -> str:
    """A page made of parts that are already HTML."""
    name = escape(printable(title))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{name} · aspk energy</title>\n<style>{STYLE}</style></head>\n"
        f"<body><main><header><h1>{name}</h1></header>\n<p class=warn>{ESTIMATE}</p>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )
