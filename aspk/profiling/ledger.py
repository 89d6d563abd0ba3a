"""Keeps a ledger of products: which calls belong together, their names, and what each call adds."""

from __future__ import annotations

import sys

from torch import Tensor, nn

from aspk.metrics import Kind as LayerKind
from aspk.profiling.neurobench import LAYERS
from aspk.profiling.neurons import mixes_time
from aspk.profiling.operations import Operation, between_activations, convolution, linear
from aspk.profiling.paths import MathPaths
from aspk.profiling.products import Product
from aspk.profiling.provenance import Kind, Origin, Provenance, copies
from aspk.profiling.recording import Call, Recording
from aspk.profiling.weighted_sums import WeightedSum

_EVENTS = (Kind.SPIKES, Kind.INTEGERS)


class Ledger:
    """Enters every product under the operation to which the call belongs.

    Products with the same weights are one operation, and so are products of activations at the same place in
    the code: a loop over time steps calls them again. Calls that read the image, spikes or analog values with
    the same weights are kept apart, and so are those with the weights transposed (a tied decoder) or with
    another stride, in which each value takes part in a different number of products.

    Args:
        module: the module.
        origins: where values come from.
        calls: the modules that are running, outermost first; maintained by the recorder.
    """

    def __init__(self, module: nn.Module, origins: Provenance, calls: list[Call]) -> None:
        self.module, self.origins, self.calls = module, origins, calls
        self.found = Recording()
        self.paths = MathPaths()
        self.unattached: list[str] = []  # operations that no neuron has followed yet
        self._names: dict[tuple[object, ...], str] = {}  # an operation's identity, to its name
        self._last: Operation | None = None  # the last product with weights
        self._place: tuple[int, int] = (0, 0)  # number of a torch function's call, products in it so far

    def label(self) -> str:
        """The module that is running."""
        return (self.calls[-1].name if self.calls else "") or type(self.module).__name__

    def follow(self, numel: int) -> str | None:
        """The operation before neurons with this many outputs: the first of that size, or else the last."""
        if not self.unattached:
            return None
        fitting = (key for key in self.unattached if self.found.operations[key].output_numel == numel)
        key = next(fitting, self.unattached[-1])
        self.unattached.remove(key)
        return key

    def normalise(self, values: int) -> None:
        """Add this many normalised values to the last product with weights."""
        if self._last is not None:
            self._last.normalised += values

    def product(self, product: Product, outputs: int) -> None:
        """Enter one product with this many output values."""
        a, b = (self._origin(source) for source in product.sources)
        if self.calls:
            self.calls[-1].products += 1
        if any(call.neuron and mixes_time(call.module) for call in self.calls):
            if a.depends or b.depends:
                self.found.inside[next(call.name for call in self.calls if call.neuron)] += 1
            return
        kind: LayerKind = "linear" if product.options is None else "conv"
        if a.depends and b.depends:
            self._between_activations(product, a, b, outputs)
            return
        if not a.depends and not b.depends:
            zeros = [_is_zero(product.left, a), _is_zero(product.right, b)]
            if any(zeros) and not all(zeros):
                x = 0 if zeros[0] else 1
                self._weighted(product, kind, x, (a, b), outputs, initial=True)
            else:
                self.found.offline[self.label()] += 1
            return
        self._weighted(product, kind, 0 if a.depends else 1, (a, b), outputs)

    def _origin(self, source: Tensor | None) -> Origin:
        return Origin(Kind.WEIGHT) if source is None else self.origins.of(source)

    def _weighted(
        self,
        product: Product,
        kind: LayerKind,
        x: int,
        origins: tuple[Origin, Origin],
        outputs: int,
        *,
        initial: bool = False,
    ) -> None:
        """A product of an activation, factor ``x``, and weights."""
        sides, weight = (product.left, product.right), 1 - x
        if product.options is None:
            call = linear(*sides) if x == 0 else linear(product.right.mT, product.left.mT)
        else:
            call = convolution(*sides, product.options, outputs)
        names = origins[weight].names
        if product.bias is not None:
            names |= self.origins.of(product.bias).names
        call.kind, call.parameters = kind, set(names)
        call.image = origins[x].kind == Kind.IMAGE
        call.module = bool(self.calls) and isinstance(self.calls[-1].module, LAYERS)
        source = product.sources[x]
        call.copies = [copies(source, origins[x]) if source is not None and call.image else 1.0]
        reads = "image" if call.image else "events" if origins[x].kind in _EVENTS else "analog"
        held = product.sources[weight]
        known = bool(origins[weight].names)
        place = () if held is None else (held.storage_offset(), *sorted(held.shape))
        columns = product.right.shape[-1] if x == 0 else product.left.shape[-2]
        reach = columns if product.options is None else repr(product.options)  # products of each value
        identity = (kind, origins[weight].names, place, reach, None if known else self._position())
        self._add(identity, call, origins[weight].names, reads="" if initial else reads)

    def _between_activations(self, product: Product, a: Origin, b: Origin, outputs: int) -> None:
        if product.options is not None:  # a convolution by activations
            call = convolution(product.left, product.right, product.options, outputs)
            call.kind = "attention"
        else:
            call = between_activations(product.left, product.right)
        for side, origin in ((call, a), (call.other, b)):
            if side is not None:
                side.image, side.copies = origin.kind == Kind.IMAGE, [1.0]
        key = self._add(("attention", self._position()), call, frozenset(), reads="both")
        module = key.rpartition(".")[0]
        earlier = [k for k in self.unattached if k != key and k.startswith(f"{module}.product")]
        for name in earlier:  # a product of products: no neuron in between
            self.unattached.remove(name)

    def weighted_sum(self, found: WeightedSum) -> None:
        """Enter a weighted sum: a product of two activations if its weights are computed from one."""
        origins = [self._origin(source) for source in found.sources]
        if self.calls:
            self.calls[-1].products += 1
        depending = [one.depends for one in origins]
        if not any(depending):
            self.found.offline[self.label()] += 1
            return
        side = depending.index(True)
        call, x, source = found.operation, origins[side], found.sources[side]
        call.kind = "attention" if all(depending) else "linear"
        call.parameters = set(origins[1 - side].names)
        call.image = x.kind == Kind.IMAGE
        call.copies = [copies(source, x) if source is not None and call.image else 1.0]
        if side == 1:  # a fixed table that the input indexes: its values are not spikes
            call.binary = call.integer = False
        reads = "image" if call.image else "events" if x.kind in _EVENTS else "analog"
        identity = (found.stem, self._position())
        self._add(identity, call, frozenset(), reads=reads, stem=found.stem)

    def _add(
        self,
        identity: tuple[object, ...],
        call: Operation,
        weights: frozenset[str],
        *,
        reads: str,
        stem: str = "",
    ) -> str:
        """Enter a call; one on an initial state of zeros (empty ``reads``) joins the operation after it."""
        operations, key = self.found.operations, (*identity, reads)
        name = self._names.get(key) or self._names.get((*identity, ""))
        if name is not None and reads and key not in self._names:
            del self._names[*identity, ""]
            operations[name].image = call.image
        if name is None:
            name = self._name(call, weights, stem)
            operations[name] = call
            call.recurrent = not reads
            self.unattached.append(name)
        else:
            operations[name].add(call)
        self._names[key] = name
        if call.kind != "attention" and call.stored:
            self._last = operations[name]
        return name

    def _name(self, call: Operation, weights: frozenset[str], own: str) -> str:
        """The module's name if it is a layer, its only parameter's name, or a numbered name."""
        module = self.calls[-1].module if self.calls else self.module
        running = self.calls[-1].name if self.calls else ""
        if own:
            stem, numbered = f"{running or type(self.module).__name__}.{own}", True
        elif call.kind == "attention":
            stem, numbered = f"{running or type(self.module).__name__}.product", True
        elif isinstance(module, nn.Linear | nn.modules.conv._ConvNd) or hasattr(module, "_packed_params"):
            stem, numbered = running or type(self.module).__name__, False
        elif len(weights) == 1 and not next(iter(weights)).startswith("tensor "):
            stem, numbered = next(iter(weights)), False
        else:
            stem, numbered = f"{running or type(self.module).__name__}.{call.kind}", True
        taken = self.found.operations
        if not numbered and stem not in taken:
            return stem
        number = 1 if numbered else 2
        while f"{stem}.{number}" in taken:
            number += 1
        return f"{stem}.{number}"

    def _position(self) -> tuple[object, ...]:
        """Where an operation is in the module's code, so that a loop's calls are one operation."""
        inside = self.calls[-1].name if self.calls else ""
        number, before = self._place
        before = before + 1 if number == self.paths.calls else 0
        self._place = (self.paths.calls, before)
        frame = sys._getframe(1)
        while frame.f_back is not None and _of_a_library(frame.f_globals.get("__name__", "")):
            frame = frame.f_back
        return (inside, frame.f_code.co_filename, frame.f_lineno, frame.f_lasti, before)

    def close(self) -> None:
        """Mark initial states that no other call followed: their values, all 0, are not spikes."""
        for key, name in self._names.items():
            if not key[-1]:
                operation = self.found.operations[name]
                operation.binary = operation.integer = False


def _of_a_library(name: str) -> bool:
    return name in ("torch", "contextlib") or name.startswith(("torch.", "aspk.profiling."))


def _is_zero(tensor: Tensor, origin: Origin) -> bool:
    return origin.kind == Kind.CONSTANT and not tensor.any()
