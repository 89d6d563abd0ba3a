"""The LIF against spikingjelly's LIFNode, and against what theory says of it."""

from __future__ import annotations

import os
import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron, surrogate

from aspk.families import lif, native
from aspk.families.layers import Site
from aspk.families.neurons import normalised_lif


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


@pytest.mark.parametrize("fused", [True, False])
@settings(max_examples=40, deadline=None)
@given(neurons, st.integers(1, 7), st.integers(0, 10**6))
def test_spikes_and_gradients_are_those_of_spikingjelly(fused, kind, steps, seed):
    with pytest.MonkeyPatch.context() as patch:
        if not fused:
            plain_operations(patch)
        check_against_spikingjelly(kind, steps, seed)


def check_against_spikingjelly(kind, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    x = 4 * torch.randn(steps, 3, 50, dtype=torch.float64, generator=generator) + 1
    x *= kind["tau"] if kind["decay_input"] else 1.0  # so that some fire in the first step
    weights = torch.randn(steps, 3, 50, dtype=torch.float64, generator=generator)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    spikes, expected = lif(ours, **kind), spikingjelly_lif(theirs, **kind)
    assert torch.equal(spikes, expected)
    assert spikes.sum() > 0
    (spikes * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("fused", [True, False])
@settings(max_examples=40, deadline=None)
@given(neurons, st.integers(1, 7), st.integers(0, 10**6))
def test_spikes_and_gradients_of_plif_are_those_of_spikingjelly(fused, kind, steps, seed):
    """The gradient of w, too; the time constant is away from where training begins."""
    with pytest.MonkeyPatch.context() as patch:
        if not fused:
            plain_operations(patch)
        check_plif_against_spikingjelly(kind, steps, seed)


def check_plif_against_spikingjelly(kind, steps, seed):
    node = neuron.ParametricLIFNode(
        init_tau=kind["tau"],
        v_threshold=kind["v_threshold"],
        v_reset=0.0 if kind["reset"] == "hard" else None,
        decay_input=kind["decay_input"],
        detach_reset=True,
        surrogate_function=surrogate.Sigmoid(alpha=4.0),
        step_mode="m",
    ).double()
    site = Site(kind["tau"]).double()
    torch.testing.assert_close(site.w, node.w, check_dtype=False)
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn((), dtype=torch.float64, generator=generator)
    for learnt in (site.w, node.w):
        learnt.data.copy_(w)
    x = 4 * torch.randn(steps, 3, 50, dtype=torch.float64, generator=generator) + 1
    x *= 1 / w.sigmoid() if kind["decay_input"] else 1.0  # so that some fire in the first step
    weights = torch.randn(steps, 3, 50, dtype=torch.float64, generator=generator)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    spikes, expected = lif(ours, reciprocal_tau=site.reciprocal_tau(), **kind), node(theirs)
    assert torch.equal(spikes, expected)
    assert spikes.sum() > 0
    (spikes * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(site.w.grad, node.w.grad, rtol=1e-6, atol=1e-9)
    with torch.no_grad():
        assert torch.equal(lif(x, reciprocal_tau=site.reciprocal_tau(), **kind), spikes)
    alone = site.w.detach().clone().requires_grad_()  # w gets its gradient where the current needs none
    (lif(x, reciprocal_tau=alone.sigmoid(), **kind) * weights).sum().backward()
    torch.testing.assert_close(alone.grad, site.w.grad)


def plain_operations(monkeypatch):
    monkeypatch.setattr(native, "available", lambda x: False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", ["linear", "conv", "static", "channels_last"])
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("learnt", [True, False])
def test_fused_normalisation_is_the_layer_and_the_neurons(
    monkeypatch, kind, dtype, reset, decay_input, learnt
):
    assert native.library() is not None, "the tests need a C++ compiler, as spikingjelly's own build does"
    generator = torch.Generator().manual_seed(3)
    shape = {"linear": (4, 5, 7, 70), "static": (5, 6, 9, 6)}.get(kind, (4, 5, 6, 9, 6))
    norm = torch.nn.BatchNorm1d(70) if kind == "linear" else torch.nn.BatchNorm2d(6)
    if dtype == torch.float64:
        norm.double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2.0, generator=generator)
        norm.bias.normal_(generator=generator)
    y = 3 * torch.randn(shape, generator=generator, dtype=dtype) + 1
    if kind == "channels_last":
        y = y.movedim(2, -1).contiguous().movedim(-1, 2)
    options = {"tau": 1.7, "v_threshold": 0.8, "reset": reset, "decay_input": decay_input}
    options["repeat"] = 4 if kind == "static" else None

    def run():
        copy, x = deepcopy(norm).train(), y.clone().requires_grad_()
        leak = torch.tensor(0.4, dtype=norm.weight.dtype, requires_grad=True)
        if learnt:
            options["reciprocal_tau"] = leak
        spikes = normalised_lif(x, copy, **options)
        weights = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
        (spikes * weights).sum().backward()
        with torch.no_grad():
            evaluated = normalised_lif(y, copy.eval(), **options)
        gradients = (x.grad, copy.weight.grad, copy.bias.grad, *([leak.grad] if learnt else []))
        return (spikes.detach(), evaluated), (*gradients, copy.running_mean, copy.running_var)

    spikes, numbers = run()
    with monkeypatch.context() as patch:
        plain_operations(patch)
        expected_spikes, expected_numbers = run()
    for ours, theirs in zip(spikes, expected_spikes, strict=True):
        assert ours.dtype == theirs.dtype == dtype
        assert torch.equal(ours, theirs)
        assert 0.02 < ours.mean() < 0.98
    for ours, theirs in zip(numbers, expected_numbers, strict=True):
        assert ours.dtype == theirs.dtype
        tolerance = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 2**-7}[dtype]
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()))


@settings(deadline=None)
@given(neurons, st.integers(1, 5), st.integers(1, 200), st.integers(0, 10**6))
def test_bfloat16_is_float32_but_for_the_last_rounding(kind, steps, width, seed):
    """Currents and gradients are read exactly; each gradient is rounded once, as PyTorch rounds."""
    generator = torch.Generator().manual_seed(seed)
    x = (2 * torch.randn(steps, 2, width, generator=generator)).bfloat16()
    x[torch.rand(x.shape, generator=generator) < 0.02] = float("nan")
    x[torch.rand(x.shape, generator=generator) < 0.02] = float("inf")
    arriving = torch.randn(x.shape, generator=generator).bfloat16()
    half, single = x.clone().requires_grad_(), x.float().requires_grad_()
    spikes, expected = lif(half, **kind), lif(single, **kind)
    assert spikes.dtype == torch.bfloat16
    assert torch.equal(spikes.float(), expected)
    spikes.backward(arriving)
    expected.backward(arriving.float())
    assert torch.equal(half.grad.isnan(), single.grad.isnan())
    assert torch.equal(half.grad.nan_to_num(), single.grad.bfloat16().nan_to_num())


def test_kernels_give_the_same_bits_on_any_number_of_threads():
    y = torch.randn(4, 37, 11, 33, generator=torch.Generator().manual_seed(0))
    results = []
    for threads in (1, 2, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        x, norm = y.clone().requires_grad_(), torch.nn.BatchNorm1d(33).train()
        normalised_lif(x, norm, tau=2.0, v_threshold=0.7).square().sum().backward()
        torch.set_num_threads(before)
        results.append(torch.cat([x.grad.flatten(), norm.weight.grad, norm.running_var]))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_without_a_compiler_there_is_one_notice_and_the_plain_operations(tmp_path):
    code = (
        "import torch; from aspk.families import lif, native; assert not native.library();"
        "print(lif(torch.ones(3, 1), tau=2.0, v_threshold=0.8).flatten().tolist())"
    )
    environment = {**os.environ, "CXX": "no-such-compiler", "XDG_CACHE_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[0.0, 0.0, 1.0]"
    assert result.stderr.count("no native kernels") == 1


@pytest.mark.parametrize("fused", [True, False])
@settings(max_examples=20, deadline=None)
@given(neurons, st.integers(0, 10**6))
def test_gradient_mode_does_not_change_spikes(fused, kind, seed):
    with pytest.MonkeyPatch.context() as patch:
        if not fused:
            plain_operations(patch)
        check_gradient_mode(kind, seed)


def check_gradient_mode(kind, seed):
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
