"""A network as a readable module of spikingjelly's own layers and neurons, which needs no aspk.

The code is a fold over the network's program, so it works for any family whose operations are known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aspk.errors import CheckpointError
from aspk.evaluation.exported import ExportedNetwork
from aspk.families import program_of
from aspk.families.base import (
    LIF,
    Addition,
    Attention,
    Convolution,
    DepthwiseConvolution,
    Firing,
    Head,
    Linear,
    Maps,
    Mean,
    Mixer,
    Operation,
    Pooling,
    Product,
    Program,
    Sampling,
    SpikeDrivenAttention,
    StridedConvolution,
    TokenAttention,
    Tokens,
)
from aspk.training.checkpoint import save_tensors
from aspk.util.files import write_atomically
from aspk.util.text import printable

FOLDER = "spikingjelly"
_CLASS = "\n\n\nclass Network(nn.Module):"
_HEAD = '''"""A spiking transformer that aspk found, of spikingjelly's own layers and neurons.

It needs torch, spikingjelly (2.0 or newer) and safetensors:

    from model import load_network
    logits = load_network()(images)      # preprocessed as network.json of the export says

Origin: {origin}
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

T = {time_steps}  # simulated steps


def lif(tau, v_threshold, v_reset, decay_input):
    return neuron.LIFNode(
        tau=tau,
        decay_input=decay_input,
        v_threshold=v_threshold,
        v_reset=v_reset,
        surrogate_function=surrogate.Sigmoid(alpha=4.0),
        detach_reset=True,
        step_mode="m",
    )


def plif(tau, v_threshold, v_reset, decay_input):
    """Neurons whose time constant is learnt, 1 / tau = sigmoid(w); tau is what it was before training."""
    return neuron.ParametricLIFNode(
        init_tau=tau,
        decay_input=decay_input,
        v_threshold=v_threshold,
        v_reset=v_reset,
        surrogate_function=surrogate.Sigmoid(alpha=4.0),
        detach_reset=True,
        step_mode="m",
    )


def conv3x3(inputs, outputs, *neurons, bias):
    """Over [T, B, C, H, W]."""
    return nn.Sequential(
        layer.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=bias, step_mode="m"),
        layer.BatchNorm2d(outputs, step_mode="m"),
        *neurons,
    )


def strided3x3(inputs, outputs, *neurons, bias):
    """Over [T, B, C, H, W], to half the height and width."""
    return nn.Sequential(
        layer.Conv2d(inputs, outputs, kernel_size=3, stride=2, padding=1, bias=bias, step_mode="m"),
        layer.BatchNorm2d(outputs, step_mode="m"),
        *neurons,
    )


def depthwise(channels, outputs, *neurons, bias, side):
    """Each channel on its own, over [T, B, C, H, W]."""
    return nn.Sequential(
        layer.Conv2d(
            channels, outputs, kernel_size=side, padding=side // 2, groups=channels, bias=bias, step_mode="m"
        ),
        layer.BatchNorm2d(outputs, step_mode="m"),
        *neurons,
    )


def linear(inputs, outputs, *neurons, bias):
    """Over tokens, [T, B, C, L]: a convolution of width 1."""
    return nn.Sequential(
        layer.Conv1d(inputs, outputs, kernel_size=1, bias=bias, step_mode="m"),
        layer.BatchNorm1d(outputs, step_mode="m"),
        *neurons,
    )


def attention(neurons, q, k, v, heads, scale):
    """Neurons behind scale (q kT) v in each head, over [T, B, C, L]."""
    q, k, v = (y.unflatten(2, (heads, -1)) for y in (q, k, v))  # [T, B, heads, C / heads, L]
    return neurons((scale * (v @ (k.transpose(-2, -1) @ q))).flatten(2, 3))


def spike_driven_attention(neurons, q, k, v):
    """Spikes of q where the channel's neuron fires, over [T, B, C, L]."""
    return q * neurons((k * v).sum(-1, keepdim=True))


def token_attention(neurons, q, k, heads):
    """Spikes of k where the neuron of the token's head fires, over [T, B, C, L]."""
    q, k = (y.unflatten(2, (heads, -1)) for y in (q, k))  # [T, B, heads, C / heads, L]
    return (k * neurons(q.sum(3, keepdim=True))).flatten(2, 3)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
{layers}

    def forward(self, image):
        """Logits [B, classes] of images [B, C, H, W], or of sequences [T, B, C, H, W]."""
        functional.reset_net(self)
        if image.dim() == 4:
            image = image.unsqueeze(0).repeat(T, 1, 1, 1, 1)
        image = image[:T]
{steps}


def load_network(weights=Path(__file__).with_name("network.safetensors")):
    network = Network()
    network.load_state_dict(load_file(weights))
    return network.eval()
'''


def write(model: ExportedNetwork, folder: Path) -> Path:
    """Write the folder ``spikingjelly`` with ``model.py`` and ``network.safetensors``."""
    network, target = model.network, folder / FOLDER
    program = program_of(network.config, network.settings, shape=network.shape, classes=network.classes)
    text = code(program, origin=", ".join(f"{key} {value}" for key, value in _origin(model.provenance)))
    save_tensors(target / "network.safetensors", weights(program, network.state_dict()), {"from": "aspk"})
    write_atomically(target / "model.py", text)
    return target


def _origin(provenance: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    known = ((key, provenance.get(key)) for key in ("study", "trial"))
    return ((key, value) for key, value in known if isinstance(value, str | int))


def code(program: Program, *, origin: str = "") -> str:
    """The module's source code.

    Raises:
        CheckpointError: the program has an operation that is not known here.
    """
    layers: list[str] = []
    steps: list[str] = []
    for operation in program.operations:
        writer = _WRITERS.get(type(operation))
        if writer is None:
            raise CheckpointError(
                f"format 'spikingjelly' cannot express {type(operation).__name__} of this network; use "
                f"'onnx' or 'torch'"
            )
        made, done = writer(operation)
        layers += made
        steps += done
    lines = ("\n".join(f"        {line}" for line in part) for part in (layers, steps))
    text = _HEAD.format(
        origin=printable(origin).replace("\\", r"\\").replace('"', "'") or "unknown",
        time_steps=program.time_steps,
        layers=next(lines),
        steps=next(lines),
    )
    return _without_unused(text)


def _without_unused(text: str) -> str:
    """The code without the functions that this network does not call."""
    before, network = text.split(_CLASS, 1)
    first, *functions = before.split("\n\n\ndef ")
    used = [one for one in functions if re.search(rf"\b{one.partition('(')[0]}\(", network)]
    return "\n\n\ndef ".join((first, *used)) + _CLASS + network


def weights(program: Program, state: Mapping[str, Any]) -> dict[str, Any]:
    """A network's tensors under the names that they have in that module."""
    names = _renamed(program)
    linear = {
        f"{name}.linear.weight" for one in program.operations if isinstance(one, Linear) for name in one.names
    }
    return {
        names.get(key, key): tensor[..., None] if key in linear else tensor for key, tensor in state.items()
    }


def _renamed(program: Program) -> dict[str, str]:
    """A tensor's name in the network to its name in the module; those of the head stay."""
    names: dict[str, str] = {}
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    for operation in program.operations:
        if isinstance(operation, Product):
            part = "linear" if isinstance(operation, Linear) else "conv"
            for name in operation.names:
                to = _attribute(name)
                names |= {f"{name}.{part}.{field}": f"{to}.0.{field}" for field in ("weight", "bias")}
                names |= {f"{name}.norm.{field}": f"{to}.1.{field}" for field in norm}
                names[f"{name}.w"] = f"{to}.2.w"
        elif isinstance(operation, Mixer | Firing):
            site = operation.site if isinstance(operation, Mixer) else operation.name
            names[f"{site}.w"] = f"{_attribute(site)}.w"
    return names


_Lines = tuple[list[str], list[str]]  # of the constructor, and of forward


def _product(operation: Product, kind: str, *options: str) -> _Lines:
    neurons = f"{_neurons(operation.neurons)}, " if operation.neurons else ""
    named = ", ".join((f"bias={operation.bias}", *options))
    arguments = f"{operation.inputs}, {operation.outputs}, {neurons}{named}"
    made = [f"self.{_attribute(name)} = {kind}({arguments})" for name in operation.names]
    calls = ", ".join(f"self.{_attribute(name)}({operation.reads[0]})" for name in operation.names)
    return made, [f"{operation.writes} = {calls}"]


def _mixer(operation: Mixer, function: str, *options: str) -> _Lines:
    name = f"self.{_attribute(operation.site)}"
    arguments = ", ".join((name, f"*{operation.reads[0]}", *options))
    return [f"{name} = {_neurons(operation.neurons)}"], [f"{operation.writes} = {function}({arguments})"]


def _attention(operation: Attention) -> _Lines:
    return _mixer(operation, "attention", f"heads={operation.heads}", f"scale={operation.scale!r}")


def _firing(operation: Firing) -> _Lines:
    name = f"self.{_attribute(operation.name)}"
    made = f"{name} = {_neurons(operation.neurons)}"
    return [made], [f"{operation.writes} = {name}({operation.reads[0]})"]


def _tokens(operation: Tokens) -> _Lines:
    return [], [f"{operation.writes} = {operation.reads[0]}.flatten(3)  # tokens: [T, B, C, L]"]


def _maps(operation: Maps) -> _Lines:
    return [], [f"{operation.writes} = {operation.reads[0]}.unflatten(3, {operation.size})  # maps"]


def _sampling(operation: Sampling) -> _Lines:
    return [], [f"{operation.writes} = {operation.reads[0]}[..., ::2, ::2]"]


def _pooling(operation: Pooling) -> _Lines:
    name = f"{_attribute(operation.place)}_pool"
    made = f'self.{name} = layer.MaxPool2d(kernel_size=3, stride=2, padding=1, step_mode="m")'
    return [made], [f"{operation.writes} = self.{name}({operation.reads[0]})"]


def _addition(operation: Addition) -> _Lines:
    first, second = operation.reads
    tokens = f"({first} + {second}).flatten(3)  # tokens: [T, B, C, L]"
    return [], [f"{operation.writes} = {tokens if operation.starts else f'{first} + {second}'}"]


def _mean(operation: Mean) -> _Lines:
    return [], [f"{operation.writes} = {operation.reads[0]}.mean(-1)  # over tokens: [T, B, C]"]


def _head(operation: Head) -> _Lines:
    made = f"self.{operation.name} = nn.Linear({operation.inputs}, {operation.classes})"
    return [made], [f"return self.{operation.name}({operation.reads[0]}.mean(0))  # over time"]


_WRITERS: dict[type[Operation], Callable[[Any], _Lines]] = {
    Convolution: lambda one: _product(one, "conv3x3"),
    StridedConvolution: lambda one: _product(one, "strided3x3"),
    DepthwiseConvolution: lambda one: _product(one, "depthwise", f"side={one.kernel}"),
    Linear: lambda one: _product(one, "linear"),
    Attention: _attention,
    SpikeDrivenAttention: lambda one: _mixer(one, "spike_driven_attention"),
    TokenAttention: lambda one: _mixer(one, "token_attention", f"heads={one.heads}"),
    Firing: _firing,
    Tokens: _tokens,
    Maps: _maps,
    Sampling: _sampling,
    Pooling: _pooling,
    Addition: _addition,
    Mean: _mean,
    Head: _head,
}


def _neurons(lif: LIF) -> str:
    reset = "0.0" if lif.reset == "hard" else "None"
    kind, threshold = "plif" if lif.learnt else "lif", lif.v_threshold
    return f"{kind}({lif.tau!r}, {threshold!r}, v_reset={reset}, decay_input={lif.decay_input})"


def _attribute(name: str) -> str:
    """A layer's name as an attribute's name."""
    return name.replace(".", "_")
