"""Watching a module run: every operation that torch dispatches, and what neurons fire."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from aspk.metrics import Kind as LayerKind
from aspk.profiling.neurons import Neurons, by_step, fired, first_tensor, is_neuron, mixes_time
from aspk.profiling.operations import Operation, between_activations, convolution, is_binary, linear
from aspk.profiling.operators import Operator, operator, tensors
from aspk.profiling.paths import MathPaths, math_paths
from aspk.profiling.products import Product, products
from aspk.profiling.provenance import Kind, Origin, Provenance, copies, joined, storage_key


@dataclass
class _Call:
    """A module that is running."""

    name: str
    module: nn.Module
    neuron: bool
    state: dict[str, int]
    comparisons: int = 0
    products: int = 0
    found: bool = False  # whether a part of it is, or looks like, neurons


@dataclass
class Elementwise:
    """Operations between two activations, element by element, of one kind in one module.

    Attributes:
        values: results of additions and products, values that a pooling reads.
        effective: those of products by 0/1 values that are not 0.
    """

    values: int = 0
    effective: int = 0


@dataclass
class Recording:
    """What happened in one pass.

    Attributes:
        operations: products, by name, in the order of their first call.
        neurons: neuron modules by name, in the order of their first call.
        elementwise: by module and kind: ``addition``, ``multiplication``, ``mask`` or ``pooling``.
        uncounted: operations that are in no table, and their shapes.
        offline: products of weights with weights, which do not depend on the input.
        inside: products that are the update of a neuron over time.
        unrecognised: modules that look like neurons, and their classes.
    """

    operations: dict[str, Operation] = field(default_factory=dict)
    neurons: dict[str, Neurons] = field(default_factory=dict)
    elementwise: dict[tuple[str, LayerKind], Elementwise] = field(default_factory=dict)
    uncounted: dict[str, Counter[str]] = field(default_factory=dict)
    offline: Counter[str] = field(default_factory=Counter)
    inside: Counter[str] = field(default_factory=Counter)
    unrecognised: dict[str, str] = field(default_factory=dict)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook is untyped
    """Records the operations and neurons of a module while it runs. Results are not changed.

    Args:
        module: the module.
        inputs: what it is called with.
        neurons: further classes of neuron modules.
    """

    def __init__(self, module: nn.Module, inputs: object, neurons: tuple[type[nn.Module], ...] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.found = Recording()
        self.module = module
        self._neuron_types = neurons
        self._origins = Provenance(module)
        for tensor in tensors(inputs):
            self._origins.set(tensor, Origin(Kind.IMAGE))
        self._calls: list[_Call] = []  # the modules that are running, outer first
        self._unattached: list[str] = []  # operations that no neuron has followed yet
        self._names: dict[object, str] = {}  # what tells an operation apart, to its name
        self._initial: dict[object, Operation] = {}  # products of an initial state of zeros
        self._paths = MathPaths()
        self._watched = True
        self._place: tuple[int, int] = (0, 0)  # a call of a function of torch, products in it so far

    # ------------------------------------------------------------------ modules

    @contextmanager
    def watching(self) -> Iterator[Recorder]:
        """Record until the end of the block."""
        with ExitStack() as stack:
            for name, module in self.module.named_modules():
                before, after = self._hooks(name, module)
                stack.callback(module.register_forward_pre_hook(before).remove)
                stack.callback(module.register_forward_hook(after, always_call=True).remove)
            self._paths = stack.enter_context(math_paths())
            stack.enter_context(self)
            yield self
            self._place_initial_states()

    def _hooks(self, name: str, module: nn.Module) -> tuple[Callable[..., None], Callable[..., None]]:
        spiking = is_neuron(module, self._neuron_types)

        def before(*_: object) -> None:
            with torch._C.DisableTorchFunction():
                self._calls.append(_Call(name, module, spiking, _state(module)))

        def after(_: nn.Module, __: object, output: Any) -> None:  # noqa: ANN401  # whatever a module returns
            call = self._calls.pop()
            with self._looking():
                self._after(call, output)
            if self._calls:
                outer = self._calls[-1]
                outer.found |= call.found
                outer.comparisons += call.comparisons
                outer.products += call.products

        return before, after

    def _after(self, call: _Call, output: Any) -> None:  # noqa: ANN401  # whatever a module returns
        spikes = first_tensor(output)
        if spikes is None or self._in_neurons():
            return
        if call.neuron:
            call.found = True
            self._fired(call.name, call.module, spikes.detach())
        elif not call.found and _looks_like_neurons(call, output, spikes):
            call.found = True
            self.found.unrecognised[call.name] = type(call.module).__name__

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Operations in the block are this recorder's own and not watched."""
        watched, self._watched = self._watched, False
        try:
            with torch._C.DisableTorchFunction():
                yield
        finally:
            self._watched = watched

    def _fired(self, name: str, module: nn.Module, spikes: Tensor) -> None:
        sites = self.found.neurons
        fresh = name not in sites
        neurons = sites.setdefault(name, Neurons(type(module).__name__))
        steps = by_step(module, spikes)
        counted = fired(steps)
        neurons.calls.append((len(steps), steps.shape[1] if steps.dim() > 1 else 1))
        neurons.steps += counted
        neurons.nonzero += int(spikes.count_nonzero())
        neurons.numel += spikes.numel()
        if sum(counted) or not spikes.any():
            self._origins.set(spikes, Origin(Kind.SPIKES))
        if fresh and self._unattached:
            operations = self.found.operations
            fitting = (key for key in self._unattached if operations[key].output_numel == spikes.numel())
            neurons.after = next(fitting, self._unattached[-1])
            self._unattached.remove(neurons.after)

    # ------------------------------------------------------------------ operations

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # whatever the operation returns
        """Let an operation happen and look at it."""
        options = kwargs or {}
        if not self._watched:
            return func(*args, **options)
        with torch._C.DisableTorchFunction():
            return self._watch(func, args, options)

    def _watch(self, func: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:  # noqa: ANN401  # as above
        if not isinstance(func, OpOverload):
            self._not_counted(str(func), tensors((args, options)))
            return func(*args, **options)
        known = operator(func)
        inputs = tensors((args, options))
        origins = [self._origins.of(tensor) for tensor in inputs]
        factors = products(known.name, args)
        output = func(*args, **options)
        results = tensors(output)
        how = known.how
        if factors:
            how = "product"
            for factor in factors:
                self._product(factor, results[0].numel())
        elif not known.known:
            if any(origin.depends for origin in origins):
                self._not_counted(known.name, inputs)
        elif known.group and not self._in_neurons():
            self._elementwise(known, inputs, origins)
        if how != "product" and results and all(result.dtype == torch.bool for result in results):
            how = "compared"
            if self._calls and any(origin.depends for origin in origins):
                self._calls[-1].comparisons += 1
        self._hand_on(known, how, args, options, origins, results)
        return output

    def _hand_on(
        self,
        known: Operator,
        how: str,
        args: tuple[Any, ...],
        options: dict[str, Any],
        origins: list[Origin],
        results: list[Tensor],
    ) -> None:
        """Note where the results come from."""
        inputs = tensors((args, options))
        written = [args[place] if isinstance(place, int) else options.get(place) for place in known.written]
        targets = tensors(written)
        if how == "empty":
            origin = Origin(Kind.UNKNOWN)
        elif how in ("factory", "filled"):
            origin = Origin(Kind.CONSTANT)
        else:
            passed = [
                Origin(one.kind, one.names, copies(tensor, one)) if one.kind == Kind.IMAGE else one
                for tensor, one in zip(inputs, origins, strict=True)
                if not (how == "moved" and one.kind == Kind.UNKNOWN and any(tensor is t for t in targets))
            ]
            origin = joined(passed, how=how)
            if origin.kind == Kind.IMAGE and known.name in _REPEATING and results:
                held = max(tensor.numel() for tensor, one in zip(inputs, origins, strict=True) if one.depends)
                origin = Origin(Kind.IMAGE, copies=origin.copies * results[0].numel() / max(held, 1))
        for target in targets:
            self._origins.set(target, origin)
        keys = {storage_key(tensor) for tensor in inputs}
        for result in results:
            if storage_key(result) not in keys:
                self._origins.set(result, origin)

    # ------------------------------------------------------------------ products

    def _product(self, product: Product, outputs: int) -> None:
        a, b = (self._origin(source) for source in product.sources)
        if self._calls:
            self._calls[-1].products += 1
        if any(call.neuron and mixes_time(call.module) for call in self._calls):
            if a.depends or b.depends:
                self.found.inside[next(call.name for call in self._calls if call.neuron)] += 1
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
                self.found.offline[self._label()] += 1
            return
        self._weighted(product, kind, 0 if a.depends else 1, (a, b), outputs)

    def _origin(self, source: Tensor | None) -> Origin:
        return Origin(Kind.WEIGHT) if source is None else self._origins.of(source)

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
            names |= self._origins.of(product.bias).names
        call.kind, call.parameters = kind, set(names)
        call.image = origins[x].kind == Kind.IMAGE
        source = product.sources[x]
        call.copies = [copies(source, origins[x]) if source is not None and call.image else 1.0]
        reads = "image" if call.image else "events" if origins[x].kind in _EVENTS else "analog"
        held = product.sources[weight]
        known = bool(origins[weight].names)
        place = () if held is None else (held.storage_offset(), *sorted(held.shape))
        identity = (kind, origins[weight].names, place, None if known else self._position())
        if initial:
            if identity in self._initial:
                self._initial[identity].add(call)
            else:
                self._initial[identity] = call
            return
        self._add((*identity, reads), call, origins[weight].names)

    def _between_activations(self, product: Product, a: Origin, b: Origin, outputs: int) -> None:
        if product.options is not None:  # a convolution by activations
            call = convolution(product.left, product.right, product.options, outputs)
            call.kind, side = "attention", 0
        else:
            call, side = between_activations(product.left, product.right)
        call.image = (a, b)[side].kind == Kind.IMAGE
        call.copies = [1.0]
        key = self._add(("attention", self._position()), call, frozenset())
        module = key.rpartition(".")[0]
        earlier = [k for k in self._unattached if k != key and k.startswith(f"{module}.product")]
        for name in earlier:  # a product of products: no neuron stands between them
            self._unattached.remove(name)

    def _add(self, identity: object, call: Operation, weights: frozenset[str]) -> str:
        operations = self.found.operations
        key = self._names.get(identity)
        if key is None:
            key = self._names[identity] = self._name(call, weights)
            operations[key] = call
            self._unattached.append(key)
        else:
            operations[key].add(call)
        return key

    def _name(self, call: Operation, weights: frozenset[str]) -> str:
        """The module's name if it is a layer, that of the only parameter, or a running number."""
        module = self._calls[-1].module if self._calls else self.module
        running = self._calls[-1].name if self._calls else ""
        if call.kind == "attention":
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
        """Where in the module's code an operation stands, so that a loop's calls are one operation."""
        inside = self._calls[-1].name if self._calls else ""
        number, before = self._place
        before = before + 1 if number == self._paths.calls else 0
        self._place = (self._paths.calls, before)
        frame = sys._getframe(1)
        while frame.f_back is not None and _of_a_library(frame.f_globals.get("__name__", "")):
            frame = frame.f_back
        return (inside, frame.f_code.co_filename, frame.f_lineno, frame.f_lasti, before)

    def _place_initial_states(self) -> None:
        """A state of zeros is read by the same weights as the later states: one operation."""
        for identity, call in self._initial.items():
            assert isinstance(identity, tuple)
            for reads in ("events", "analog", "image"):
                key = self._names.get((*identity, reads))
                if key is not None:
                    self.found.operations[key].add(call)
                    break
            else:  # no later state: its values, all 0, are no spikes
                call.binary = call.integer = False
                self._add((*identity, "analog"), call, identity[1])

    # ------------------------------------------------------------------ the rest

    def _in_neurons(self) -> bool:
        return any(call.neuron for call in self._calls)

    def _label(self) -> str:
        return (self._calls[-1].name if self._calls else "") or type(self.module).__name__

    def _not_counted(self, name: str, inputs: list[Tensor]) -> None:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in inputs)
        self.found.uncounted.setdefault(name, Counter())[shapes] += 1

    def _elementwise(self, known: Operator, inputs: list[Tensor], origins: list[Origin]) -> None:
        read = [tensor for tensor, origin in zip(inputs, origins, strict=True) if origin.depends]
        if known.group == "pooling":
            if read:
                self._note_elementwise("pooling", read[0].numel(), 0)
            return
        if len(read) < 2:
            return
        a, b = read[:2]
        values = torch.Size(torch.broadcast_shapes(a.shape, b.shape)).numel()  # type: ignore[no-untyped-call]
        if known.group == "addition":
            self._note_elementwise("addition", values, 0)
            return
        masks = [tensor for tensor in (a, b) if is_binary(tensor)]
        if not masks:
            self._note_elementwise("multiplication", values, 0)
            return
        mask = min(masks, key=lambda tensor: int(tensor.count_nonzero()) * (values // max(tensor.numel(), 1)))
        passed = int(mask.count_nonzero()) * (values // max(mask.numel(), 1))
        self._note_elementwise("mask", values, passed)

    def _note_elementwise(self, kind: LayerKind, values: int, effective: int) -> None:
        item = self.found.elementwise.setdefault((self._label(), kind), Elementwise())
        item.values += values
        item.effective += effective


_EVENTS = (Kind.SPIKES, Kind.INTEGERS)
_REPEATING = {"aten::repeat", "aten::stack", "aten::cat", "aten::repeat_interleave", "aten::index_select"}


def _of_a_library(name: str) -> bool:
    return name in ("torch", "contextlib") or name.startswith(("torch.", "aspk.profiling."))


def _is_zero(tensor: Tensor, origin: Origin) -> bool:
    return origin.kind == Kind.CONSTANT and not tensor.any()


def _state(module: nn.Module) -> dict[str, int]:
    """Identity and version of the tensors that a module itself holds, its parameters left out."""
    held = {**module._buffers, **module.__dict__, **getattr(module, "_memories", {})}
    return {
        key: hash((id(value), None if value.is_inference() else value._version))
        for key, value in held.items()
        if isinstance(value, Tensor)
    }


def _looks_like_neurons(call: _Call, output: object, spikes: Tensor) -> bool:
    """Whether a module's output is 0/1 behind a state: one that it keeps, hands on, or steps through."""
    if call.products or not spikes.is_floating_point() or not spikes.any() or not is_binary(spikes):
        return False
    if not call.comparisons:
        return False
    keeps = _state(call.module) != call.state
    hands_on = isinstance(output, tuple | list) and len(output) > 1
    return keeps or hands_on or call.comparisons > 1
