"""What a sampler says in the log, once about each thing: it would come back with every suggestion."""

from __future__ import annotations

import logging

_LOGGER = logging.getLogger(__name__)


class Notices:
    """Warnings of one sampler, and what it says of a study that has only just begun."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def warn(self, about: str, text: str) -> None:
        """Something is not as the user meant it."""
        if about not in self._told:
            self._told.add(about)
            _LOGGER.warning("%s: %s", about, text)

    def mention(self, about: str, text: str) -> None:
        """Something that passes by itself."""
        _LOGGER.info("%s: %s", about, text)
