"""Files that a crash leaves old or new, never half written, and names that stay inside their folder."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file by way of a temporary one beside it: write, fsync, rename.

    Args:
        path: the file; its folder is made if need be.
        content: text is written as UTF-8.

    Raises:
        OSError: the folder cannot be written, or the disk is full; an old file is then still there.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def safe_name(name: str) -> str:
    """A name as one part of a path: it leads nowhere else, whatever it is.

    Letters, digits, ``-``, ``_`` and inner dots stay; a name that has more than these in it, or more than 80
    characters, is told from its like by six digits of its hash.
    """
    kept = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip(".-")[:80]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return kept if kept and kept == name else f"{kept}-{digest}".lstrip("-")
