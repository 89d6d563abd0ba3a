"""The documentation's build: ``make docs`` writes docs/_build/html, with warnings as errors."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generated
from sphinx.application import Sphinx

import aspk

project = "aspk"
author = "the authors of aspk"
release = aspk.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"aspk {release}"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["wide.css"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes of dataclasses stand in the class docstring, once
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
suppress_warnings = ["myst.header"]


def setup(app: Sphinx) -> None:
    """scikit-learn's requests for metadata are its own affair, and link to its pages."""
    app.connect(
        "autodoc-skip-member", lambda app, what, name, *_: True if name.endswith("_request") else None
    )


generated.write(Path(__file__).parent / "reference")
