"""Progress bars, also one below another."""

from __future__ import annotations

from tqdm import tqdm


class ProgressBar(tqdm):  # type: ignore[misc]  # tqdm brings no types
    """A bar of tqdm that finds its line on a :class:`~aspk.util.text.PlainStream`, too.

    A bar below another one moves down a line, writes, and moves up again. Moving up takes an escape sequence,
    the only one that a bar writes; a stream that lets none pass would show its characters and scroll with
    each update. On a terminal it goes to the stream behind; in a file, where no line is written again, all
    bars share one line.
    """

    def moveto(self, n: int) -> None:
        """Move by ``n`` lines, up if negative."""
        behind = getattr(self.fp, "behind", None)
        if behind is None:
            super().moveto(n)
        elif behind.isatty():
            behind.write("\n" * n + "\x1b[A" * -n)
            behind.flush()
