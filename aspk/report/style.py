"""The style sheet of all pages: light and dark, screen and paper."""

from importlib.resources import files

STYLE = (files("aspk.report") / "assets" / "page.css").read_text(encoding="utf-8")
