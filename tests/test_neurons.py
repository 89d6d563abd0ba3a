"""The LIF against spikingjelly's LIFNode, and against what theory says of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron, surrogate

from aspk.supernet import lif


def spikingjelly_lif(x, *, tau, v_threshold, reset="hard", decay_input=True):
    node = neuron.LIFNode(
        tau=tau,
        v_threshold=v_threshold,
        v_reset=0.0 if reset == "hard" else None,
        decay_input=decay_input,
        detach_reset=True,
        surrogate_function=surrogate.Sigmoid(alpha=4.0),
        step_mode="m",
    )
    return node(x)


neurons = st.fixed_dictionaries(
    {
        "tau": st.sampled_from([1.25, 2.0, 3.7, 10.0]),
        "v_threshold": st.sampled_from([0.5, 0.6, 1.0, 2.0]),
        "reset": st.sampled_from(["hard", "soft"]),
        "decay_input": st.booleans(),
    }
)


@settings(max_examples=40, deadline=None)
@given(neurons, st.integers(1, 7), st.integers(0, 10**6))
def test_spikes_and_gradients_are_those_of_spikingjelly(kind, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    x = 4 * torch.randn(steps, 3, 50, dtype=torch.float64, generator=generator) + 1
    weights = torch.randn(steps, 3, 50, dtype=torch.float64, generator=generator)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    spikes, expected = lif(ours, **kind), spikingjelly_lif(theirs, **kind)
    assert torch.equal(spikes, expected)
    assert spikes.sum() > 0
    (spikes * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(neurons, st.integers(0, 10**6))
def test_gradient_mode_does_not_change_spikes(kind, seed):
    x = 3 * torch.randn(4, 200, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        silent = lif(x, **kind)
    assert torch.equal(silent, lif(x.requires_grad_(), **kind).detach())


@pytest.mark.parametrize("scale", [0.25, 2.0, 8.0])  # powers of two, so that rounding scales as well
def test_scaling_input_and_threshold_together_is_an_identity(device, scale):
    x = 2 * torch.randn(5, 300, generator=torch.Generator().manual_seed(1)).to(device)
    plain = lif(x, tau=2.0, v_threshold=0.75)
    assert 0 < plain.mean() < 1
    assert torch.equal(plain, lif(x * scale, tau=2.0, v_threshold=0.75 * scale))


def test_constant_input_fires_with_the_period_of_the_closed_form(device):
    # V reaches x * (1 - (1 - 1/tau)^n) after n steps: 0.5, 0.75, 0.875 for x = 1, tau = 2
    x = torch.ones(9, 1, device=device)
    assert lif(x, tau=2.0, v_threshold=0.8).flatten().tolist() == [0, 0, 1] * 3
    assert lif(x, tau=2.0, v_threshold=1.1).sum() == 0


def test_input_is_not_changed():
    x = torch.randn(3, 10)
    before = x.clone()
    lif(x, tau=2.0, v_threshold=0.5)
    assert torch.equal(x, before)
