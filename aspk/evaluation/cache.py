"""A cache of evaluation results: a network that any process has evaluated is not evaluated again."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import OrderedDict
from pathlib import Path

from aspk.errors import MetricsError
from aspk.metrics import Metrics, layers_to_json
from aspk.space.genes import SubnetConfig
from aspk.util.files import remove_leftovers, write_atomically

_LOGGER = logging.getLogger(__name__)


class ResultCache:
    """Metrics by network, in memory and in a folder that processes may share.

    A file holds one result with its checksum, and is written atomically. Damaged files count as missing.

    Args:
        folder: where the files are; None keeps results in memory only.
        context: identifies everything else that results depend on; each context has its own folder.
        entries: the most results to keep, in memory and on disk; the oldest are dropped first.
    """

    def __init__(self, folder: Path | None, *, context: str, entries: int) -> None:
        self.context = context
        self._folder = None if folder is None else folder / context
        self._entries = entries
        self._known: OrderedDict[SubnetConfig, Metrics] = OrderedDict()
        self._files = 0
        if self._folder is not None:
            remove_leftovers(self._folder)
            self._files = sum(1 for _ in self._folder.glob("*.json"))

    def get(self, config: SubnetConfig) -> Metrics | None:
        """The cached result of a network, if any."""
        if config not in self._known and (found := self._read(config)) is not None:
            self._remember(config, found)
        return self._known.get(config)

    def put(self, config: SubnetConfig, metrics: Metrics) -> None:
        """Keep a result. If the folder cannot be written to, that is only logged."""
        self._remember(config, metrics)
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(config), _encode(config, metrics))
        except OSError as error:
            _LOGGER.warning("results are not kept in %s: %s", self._folder, error)
            self._folder = None
            return
        self._files += 1
        if self._files > self._entries:
            self._drop_oldest()

    def _remember(self, config: SubnetConfig, metrics: Metrics) -> None:
        self._known[config] = metrics
        if len(self._known) > self._entries:
            self._known.popitem(last=False)

    def _read(self, config: SubnetConfig) -> Metrics | None:
        if self._folder is None:
            return None
        try:
            return _decode(config, self._path(config).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, MetricsError) as error:
            _LOGGER.info("a damaged result is computed again: %s", error)
            return None

    def _path(self, config: SubnetConfig) -> Path:
        assert self._folder is not None
        return self._folder / f"{hashlib.sha256(_text(config)).hexdigest()[:32]}.json"

    def _drop_oldest(self) -> None:
        """Delete all but nine tenths, so that this is rare. Another process may delete any file first."""
        assert self._folder is not None
        ages = []
        for path in self._folder.glob("*.json"):
            try:
                ages.append((path.stat().st_mtime_ns, path))
            except OSError:
                continue
        ages.sort()
        keep = self._entries - self._entries // 10
        for _, path in ages[: max(0, len(ages) - keep)]:
            path.unlink(missing_ok=True)
        self._files = min(len(ages), keep)


def _text(config: SubnetConfig) -> bytes:
    return json.dumps(config.to_json(), sort_keys=True).encode()


def _encode(config: SubnetConfig, metrics: Metrics) -> bytes:
    result = {**metrics.to_json(), "layers": layers_to_json(metrics.layers, digits=None)}
    body = json.dumps({"network": config.to_json(), "metrics": result}, sort_keys=True)
    return json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "body": body}).encode()


def _decode(config: SubnetConfig, data: bytes) -> Metrics:
    """The result in a file.

    Raises:
        ValueError: it is damaged, or belongs to another network.
    """
    outer = json.loads(data)
    if not isinstance(outer, dict) or not isinstance(outer.get("body"), str):
        raise ValueError("no result in it")
    if hashlib.sha256(outer["body"].encode()).hexdigest() != outer.get("sha256"):
        raise ValueError("the checksum is wrong")
    body = json.loads(outer["body"])
    if json.dumps(body["network"], sort_keys=True).encode() != _text(config):
        raise ValueError("another network's result")
    return Metrics.from_json(body["metrics"])
