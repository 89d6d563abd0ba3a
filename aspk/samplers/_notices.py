"""A sampler's messages, each logged once: they would come back with every suggestion."""

from __future__ import annotations

import logging

_LOGGER = logging.getLogger(__name__)


class Notices:
    """The messages of one sampler."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def warn(self, about: str, text: str) -> None:
        """Something is not as the user meant it."""
        if about not in self._logged:
            self._logged.add(about)
            _LOGGER.warning("%s: %s", about, text)

    def mention(self, about: str, text: str) -> None:
        """Something that passes by itself."""
        _LOGGER.info("%s: %s", about, text)
