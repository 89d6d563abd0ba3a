"""The graphics card's kernels of neurons, on a processor by Triton's interpreter, against their twins."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from aspk.families.neurons import lif

pytest.importorskip("triton", reason="PyTorch comes without Triton here")

_PROGRAM = """
import itertools, json, sys
import torch
from aspk.families import cuda_neurons
from aspk.families.native import Neuron
from aspk.families.neurons import _SURROGATE_SLOPE, lif

found = []
generator = torch.Generator().manual_seed(1)
both = (True, False)
for steps, hard, decay_input, dtype in itertools.product((1, 4), both, both, ("float32", "bfloat16")):
    kind = getattr(torch, dtype)
    x = (2 * torch.randn(steps, 3, 7, 10, 10, generator=generator)).to(kind)
    if steps > 1 and hard:  # channels last
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    x = x.requires_grad_()
    arriving = torch.randn(x.shape, generator=generator).to(kind)
    options = dict(tau=1.7, v_threshold=0.8, reset="hard" if hard else "soft", decay_input=decay_input)
    expected = lif(x, **options)
    (gradient,) = torch.autograd.grad(expected, x, arriving)
    neuron = Neuron(1.7, 0.8, hard, decay_input)
    spikes = cuda_neurons.lif_on_card(x, neuron, _SURROGATE_SLOPE)
    (own,) = torch.autograd.grad(spikes, x, arriving)
    error = ((own - gradient).abs().max() / gradient.abs().max()).item()
    rate = spikes.float().mean().item()
    strides = spikes.stride() == own.stride() == x.stride()
    same, kind = torch.equal(spikes, expected), str(spikes.dtype)
    found.append(dict(same=same, error=error, rate=rate, dtype=dtype, kind=kind, strides=strides))
print(json.dumps(found))
"""


_COMPILATION = """
import triton
from aspk.families import cuda_neurons
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

constants = {"HARD": True, "DECAY_INPUT": False, "BLOCK": 1024}
for kind in ("fp32", "bf16"):
    for kernel in (cuda_neurons._forward, cuda_neurons._backward):
        signature = {
            name: "constexpr" if name in constants else "i32" if name in ("size", "steps")
            else "fp32" if name in ("tau", "v_threshold", "slope") else f"*{kind}"
            for name in kernel.arg_names
        }
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        print("cubin" in triton.compile(source, target=GPUTarget("cuda", 80, 32)).asm)
"""


def test_the_kernels_compile_for_a_card_that_is_not_here(tmp_path):
    """For Ampere, down to machine code, by the compiler that comes with Triton."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _COMPILATION], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["True"] * 4, done.stderr


@pytest.fixture(scope="module")
def found():
    """Triton reads the variable when it is imported, so that a process of its own compares."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "ASPK_NATIVE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_spikes_are_pytorchs_bit_for_bit(found):
    assert len(found) == 16
    assert all(case["same"] for case in found), found
    assert all(0.1 < case["rate"] < 0.6 for case in found)
    assert all(case["strides"] for case in found)
    assert all(case["kind"] == f"torch.{case['dtype']}" for case in found)


def test_gradients_are_pytorchs_up_to_rounding(found):
    limits = {"float32": 1e-5, "bfloat16": 1e-2}
    assert all(case["error"] < limits[case["dtype"]] for case in found), found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_on_a_card_spikes_are_those_of_the_processor(dtype, reset):
    x = (2 * torch.randn(4, 3, 7, 10, 10, generator=torch.Generator().manual_seed(1))).to(dtype)
    found = []
    for place in ("cpu", "cuda"):
        own = x.to(place).requires_grad_()
        spikes = lif(own, tau=1.7, v_threshold=0.8, reset=reset)
        (gradient,) = torch.autograd.grad(spikes.float().square().sum(), own)
        found.append((spikes.cpu(), gradient.cpu()))
    (expected, gradient), (spikes, own) = found
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(own, gradient, rtol=1e-2, atol=1e-2 if dtype == torch.bfloat16 else 1e-5)
