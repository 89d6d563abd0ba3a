"""Watching a module run: products with weights, products of two activations, and what neurons fire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from aspk.metrics import Kind

_aten = torch.ops.aten
# Base classes of spiking neurons: spikingjelly and snnTorch.
_NEURON_BASES = {"BaseNode", "SimpleBaseNode", "SpikingNeuron"}


@dataclass
class Operation:
    """One product, gathered over all calls of the module it belongs to.

    Attributes:
        kind: ``conv``, ``linear`` or ``attention``.
        rows: input sums of each call, by index of the leading axis; of whole numbers, absolute values.
        macs: dense multiply-accumulates.
        input_numel: values read.
        output_numel: values written.
        exact: accumulates that really occur.
        binary: whether all input values were 0 or 1.
        integer: whether all input values were whole numbers.
    """

    kind: Kind
    rows: list[Tensor] = field(default_factory=list)
    macs: int = 0
    input_numel: int = 0
    output_numel: int = 0
    exact: float = 0.0
    binary: bool = True
    integer: bool = True


@dataclass
class Neurons:
    """One neuron module, gathered over all its calls.

    Attributes:
        steps: spikes at each step.
        numel: values fired or not, over all steps and images.
        after: name of the operation in front of it, None if there is none.
    """

    steps: list[float] = field(default_factory=list)
    numel: int = 0
    after: str | None = None


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook is untyped
    """Records the operations and neurons of a module while it runs. Results are not changed.

    Args:
        module: the module.
        neurons: further classes of neuron modules.
    """

    def __init__(self, module: nn.Module, neurons: tuple[type[nn.Module], ...] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.operations: dict[str, Operation] = {}
        self.neurons: dict[str, Neurons] = {}
        self.module = module
        self._weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
        self._neuron_types = neurons
        self._calls: list[tuple[str, nn.Module, list[int]]] = []  # the modules that are running, outer first
        self._unattached: list[str] = []  # operations that no neuron has followed yet

    # ------------------------------------------------------------------ modules

    @contextmanager
    def watching(self) -> Iterator[Recorder]:
        """Record until the end of the block."""
        with ExitStack() as stack:
            for name, module in self.module.named_modules():
                before, after = self._hooks(name, module)
                stack.callback(module.register_forward_pre_hook(before).remove)
                stack.callback(module.register_forward_hook(after, always_call=True).remove)
            stack.enter_context(self)
            yield self

    def _hooks(self, name: str, module: nn.Module) -> tuple[Callable[..., None], Callable[..., None]]:
        spiking = is_neuron(module, self._neuron_types)

        def before(*_: object) -> None:
            self._calls.append((name, module, [0]))

        def after(_: nn.Module, __: object, output: Any) -> None:  # noqa: ANN401  # whatever a module returns
            self._calls.pop()
            spikes = output[0] if isinstance(output, tuple) else output
            if spiking and isinstance(spikes, Tensor):
                self._fired(name, module, spikes.detach())

        return before, after

    def _fired(self, name: str, module: nn.Module, spikes: Tensor) -> None:
        fresh = name not in self.neurons
        neurons = self.neurons.setdefault(name, Neurons())
        multi_step = getattr(module, "step_mode", "s") == "m" or type(module).__name__.startswith("MultiStep")
        steps = spikes.flatten(1) if multi_step else spikes.flatten()[None]
        neurons.steps += steps.sum(1, dtype=torch.float64).tolist()
        neurons.numel += spikes.numel()
        if fresh and self._unattached:
            fitting = (key for key in self._unattached if self.operations[key].output_numel == spikes.numel())
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
        output = func(*args, **(kwargs or {}))
        if func is _aten.convolution.default:
            self._convolution(args, output)
        elif func in (_aten.mm.default, _aten.bmm.default):
            self._product(args[0], args[1])
        elif func in (_aten.addmm.default, _aten.baddbmm.default):
            self._product(args[1], args[2])
        return output

    def _convolution(self, args: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, stride, padding, dilation, transposed, output_padding, groups = args[:9]
        events = x.abs()
        per_group = events.unflatten(1, (groups, -1)).sum(2)  # [n, groups, ...]
        ones = weight.new_ones(groups, 1, *weight.shape[2:])
        reached = torch.convolution(
            per_group, ones, None, stride, padding, dilation, transposed, output_padding, groups
        )
        outputs = output.shape[1] // groups
        self._add(
            "conv",
            x,
            macs=(x if transposed else output).numel() * weight[0].numel(),
            exact=float(reached.sum(dtype=torch.float64)) * outputs,
            output_numel=output.numel(),
        )

    def _product(self, a: Tensor, b: Tensor) -> None:
        """Rows times columns, [..., r, k] by [..., k, c]."""
        macs, outputs = a.numel() * b.shape[-1], a.shape[:-1].numel() * b.shape[-1]
        weight_a, weight_b = self._is_weight(a), self._is_weight(b)
        if weight_b or (self._calls and isinstance(self._calls[-1][1], nn.Linear)):
            self._add("linear", a, macs=macs, exact=_total(a) * b.shape[-1], output_numel=outputs)
        elif weight_a:
            columns = b.transpose(-2, -1)  # the batch first
            self._add("linear", columns, macs=macs, exact=_total(b) * a.shape[-2], output_numel=outputs)
        else:
            self._between_activations(a, b, macs, outputs)

    def _between_activations(self, a: Tensor, b: Tensor, macs: int, outputs: int) -> None:
        """Billed for the spikes of the 0/1 side, the left one if both are."""
        left = _is_binary(a) or (not _is_binary(b) and _is_integer(a))
        x, fan_out = (a, b.shape[-1]) if left else (b, a.shape[-2])
        exact = _total(x) * fan_out
        if _is_binary(a) and _is_binary(b):
            exact = float((a.sum(-2) * b.sum(-1)).sum(dtype=torch.float64))  # pairs where both fire
        key = self._add("attention", x, macs=macs, exact=exact, output_numel=outputs)
        module = key.rpartition(".")[0]
        products = [k for k in self._unattached if k != key and k.startswith(f"{module}.product")]
        for earlier in products:  # a product of products: no neuron stands between them
            self._unattached.remove(earlier)

    def _is_weight(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._weights

    def _add(self, kind: Kind, x: Tensor, *, macs: int, exact: float, output_numel: int) -> str:
        key = self._key(kind)
        if key not in self.operations:
            self.operations[key] = Operation(kind)
            self._unattached.append(key)
        operation = self.operations[key]
        integer = _is_integer(x)
        values = x.abs() if integer else x
        operation.rows.append(values.flatten(1).sum(1, dtype=torch.float64).cpu())
        operation.macs += macs
        operation.input_numel += x.numel()
        operation.output_numel += output_numel
        operation.exact += exact
        operation.binary &= _is_binary(x)
        operation.integer &= integer
        return key

    def _key(self, kind: Kind) -> str:
        """The module's name; with a running number where it has no weight of its own."""
        name, module, count = self._calls[-1] if self._calls else ("", self.module, [0])
        count[0] += 1
        own = isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
        if own:
            return name
        label = f"product.{count[0]}" if kind == "attention" else f"{kind}.{count[0]}"
        return f"{name or type(self.module).__name__}.{label}"


def is_neuron(module: nn.Module, neurons: tuple[type[nn.Module], ...] = ()) -> bool:
    """Whether a module is a spiking neuron of spikingjelly or snnTorch, or one of ``neurons``."""
    bases = {base.__name__ for base in type(module).__mro__}
    return isinstance(module, neurons) or bool(bases & _NEURON_BASES)


def _total(x: Tensor) -> float:
    return float(x.abs().sum(dtype=torch.float64))


def _is_binary(x: Tensor) -> bool:
    return bool(((x == 0) | (x == 1)).all())


def _is_integer(x: Tensor) -> bool:
    return bool((x == x.round()).all())
