"""A sampler's messages, each logged once: they would otherwise be repeated with every suggestion."""

from __future__ import annotations

import logging

_LOGGER = logging.getLogger(__name__)


class Notices:
    """The messages of one sampler."""

    def __init__(self) -> None:
        self._logged: set[tuple[str, str]] = set()

    def warn(self, about: str, text: str, *, case: str = "") -> None:
        """Log, once for each case, that something is not as the user intended."""
        if (about, case) not in self._logged:
            self._logged.add((about, case))
            _LOGGER.warning("%s: %s", about, text)

    def mention(self, about: str, text: str) -> None:
        """Log something that resolves itself."""
        _LOGGER.info("%s: %s", about, text)
