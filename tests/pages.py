"""The documentation's pages, and the examples on them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = (
    ROOT / "README.md",
    *sorted(path for path in DOCS.rglob("*.md") if not {"_build", "reference"} & set(path.parts)),
    ROOT / "hub" / "README.md",
    ROOT / "studies" / "fashion_mnist" / "README.md",
)
OWN_IMAGES, TWO_DAYS = (DOCS / "start" / f"{name}.md" for name in ("own_images", "two_days"))
AFTER_DEMO, AFTER_COMMANDS = "# after 'make demo'", "# after the command"  # an example's first line


def blocks(path, language):
    """A page's examples in a language, those in lists too."""
    found = re.findall(
        rf"^( *)```{language}\n(.*?)^ *```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


def shell_lines(path):
    """The lines of a page's shell examples, without comments; of scripts and what uses variables none."""
    lines = [
        line.split("#")[0].strip()
        for block in blocks(path, "sh")
        if "$" not in block and not block.startswith("#!")
        for line in re.sub(r'"[^"]*"', lambda match: match[0].replace("\n", ";"), block).splitlines()
    ]
    return [line for line in lines if line]
