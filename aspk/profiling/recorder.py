"""Records a module's run: every operation that torch dispatches, and the spikes of its neurons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from aspk.metrics import Kind as LayerKind
from aspk.profiling.ledger import Ledger
from aspk.profiling.neurobench import ACTIVATIONS
from aspk.profiling.neurons import Neurons, batch_first, by_step, fired, first_tensor, is_neuron, is_own
from aspk.profiling.operations import is_binary
from aspk.profiling.operators import NORMALISATIONS, Operator, operator, tensors
from aspk.profiling.paths import math_paths
from aspk.profiling.products import plain, products
from aspk.profiling.provenance import Kind, Origin, Provenance, copies, joined, storage_key
from aspk.profiling.recording import Call, Elementwise, Recording
from aspk.profiling.weighted_sums import weighted_sum

_REPEATING = {"aten::repeat", "aten::stack", "aten::cat", "aten::repeat_interleave", "aten::index_select"}


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook is untyped
    """Records the operations and neurons of a module while it runs. Results are not changed.

    Args:
        module: the module.
        inputs: what it is called with.
        neurons: further classes of neuron modules.
        time_steps: simulated steps T, if given by the user.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: object,
        neurons: tuple[type[nn.Module], ...] = (),
        *,
        time_steps: int | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.module = module
        self._neuron_types, self._time_steps = neurons, time_steps
        self._origins = Provenance(module)
        for tensor in tensors(inputs):
            self._origins.set(tensor, Origin(Kind.IMAGE))
        self._calls: list[Call] = []  # the modules that are running, outermost first
        self._ledger = Ledger(module, self._origins, self._calls)
        self._watched = True

    @property
    def found(self) -> Recording:
        """What was recorded."""
        return self._ledger.found

    # ------------------------------------------------------------------ modules

    @contextmanager
    def watching(self) -> Iterator[Recorder]:
        """Record until the end of the block."""
        with ExitStack() as stack:
            for name, module in self.module.named_modules():
                before, after = self._hooks(name, module)
                stack.callback(module.register_forward_pre_hook(before).remove)
                stack.callback(module.register_forward_hook(after, always_call=True).remove)
            self._ledger.paths = stack.enter_context(math_paths())
            stack.enter_context(self)
            yield self
            self._ledger.close()

    def _hooks(self, name: str, module: nn.Module) -> tuple[Callable[..., None], Callable[..., None]]:
        spiking = is_neuron(module, self._neuron_types)

        def before(*_: object) -> None:
            with torch._C.DisableTorchFunction():
                self._calls.append(Call(name, module, spiking, _state(module)))

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

    def _after(self, call: Call, output: Any) -> None:  # noqa: ANN401  # whatever a module returns
        spikes = first_tensor(output)
        if spikes is None or self._in_neurons():
            return
        if call.neuron or isinstance(call.module, ACTIVATIONS):
            values = plain(spikes)
            self.found.activations.update(
                all=values.numel(), zero=values.numel() - int(values.count_nonzero())
            )
        if call.neuron:
            call.found = True
            self._fired(call.name, call.module, spikes.detach())
        elif not call.found and _looks_like_neurons(call, output, spikes):
            call.found = True
            self.found.unrecognised[call.name] = type(call.module).__name__

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Operations in the block are the recorder's own and are not recorded."""
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
        steps = by_step(module, spikes, time_steps=self._time_steps)
        counted = fired(steps)
        neurons.batch_first = batch_first(module)
        if is_own(module) and steps.dim() > spikes.dim():
            neurons.shape = tuple(spikes.shape)
        neurons.calls.append((len(steps), steps.shape[1] if steps.dim() > 1 else 1))
        neurons.steps += counted
        neurons.numel += spikes.numel()
        if sum(counted) or not spikes.any():
            self._origins.set(spikes, Origin(Kind.SPIKES))
        if fresh:
            neurons.after = self._ledger.follow(spikes.numel())

    # ------------------------------------------------------------------ operations

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # whatever the operation returns
        """Run an operation and record it."""
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
        factors, summed = products(known.name, args), weighted_sum(func, known.name, args)
        output = func(*args, **options)
        results = tensors(output)
        how = known.how
        if factors:
            how = "product"
            for factor in factors:
                self._ledger.product(factor, results[0].numel())
        elif summed is not None:
            how = "product"
            self._ledger.weighted_sum(summed)
        elif not known.known:
            if any(origin.depends for origin in origins):
                self._not_counted(known.name, inputs)
        elif known.name in NORMALISATIONS and origins[0].depends:
            self._ledger.normalise(inputs[0].numel())
        elif known.group and not self._in_neurons():
            self._elementwise(known, args, inputs, origins)
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
        """Record where the results come from."""
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

    # ------------------------------------------------------------------ the rest

    def _in_neurons(self) -> bool:
        return any(call.neuron for call in self._calls)

    def _not_counted(self, name: str, inputs: list[Tensor]) -> None:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in inputs)
        self.found.uncounted.setdefault(name, Counter())[shapes] += 1

    def _elementwise(
        self, known: Operator, args: tuple[Any, ...], inputs: list[Tensor], origins: list[Origin]
    ) -> None:
        read = [tensor for tensor, origin in zip(inputs, origins, strict=True) if origin.depends]
        if known.group == "pooling":
            if read:
                self._note_elementwise("pooling", read[0].numel(), 0)
            return
        if known.group == "squares" and read and _squares(args):
            self._note_elementwise("multiplication", read[0].numel(), 0)
        if len(read) < 2:
            if known.group == "multiplication":
                self._scaled(*args[-2:])
            return
        a, b = read[:2]
        values = torch.Size(torch.broadcast_shapes(a.shape, b.shape)).numel()  # type: ignore[no-untyped-call]  # torch has no types for it
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

    def _scaled(self, *factors: object) -> None:
        """Note a product of an activation and weights, element by element; a single factor can be folded."""
        held = [factor for factor in factors if isinstance(factor, Tensor)]
        kinds = [self._origins.of(tensor) for tensor in held]
        weights = [t.numel() for t, origin in zip(held, kinds, strict=True) if origin.kind == Kind.WEIGHT]
        if any(origin.depends for origin in kinds) and weights and weights[0] > 1:
            shape = torch.broadcast_shapes(*(tensor.shape for tensor in held))  # type: ignore[no-untyped-call]  # torch
            self.found.scaled[self._ledger.label()] += torch.Size(shape).numel()

    def _note_elementwise(self, kind: LayerKind, values: int, effective: int) -> None:
        item = self.found.elementwise.setdefault((self._ledger.label(), kind), Elementwise())
        item.values += values
        item.effective += effective


def _squares(args: tuple[Any, ...]) -> bool:
    """Whether a norm or square multiplies: sums, counts and maxima do not."""
    return len(args) < 2 or args[1] not in (0, 1, float("inf"), -float("inf"))


def _state(module: nn.Module) -> dict[str, int]:
    """Identity and version of the tensors that a module itself holds, except its parameters."""
    held = {**module._buffers, **module.__dict__, **getattr(module, "_memories", {})}
    return {
        key: hash((id(value), None if value.is_inference() else value._version))
        for key, value in held.items()
        if isinstance(value, Tensor)
    }


def _looks_like_neurons(call: Call, output: object, spikes: Tensor) -> bool:
    """Whether a module's output is 0/1 and comes from a state that it keeps, passes on or steps through."""
    if call.products or not spikes.is_floating_point() or not spikes.any() or not is_binary(spikes):
        return False
    if not call.comparisons:
        return False
    keeps = _state(call.module) != call.state
    hands_on = isinstance(output, tuple | list) and len(output) > 1
    return keeps or hands_on or call.comparisons > 1
