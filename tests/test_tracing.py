"""Programs that PyTorch makes of a network compute what the network computes, for other images, too."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from aspk import load_space
from aspk.families import native
from aspk.families.neurons import lif, normalised_lif
from aspk.families.random_weights import calibrated_random_network

pytestmark = pytest.mark.filterwarnings("ignore")  # tracing is deprecated in PyTorch, and used


@pytest.fixture(scope="module")
def network():
    space = load_space("tiny")
    return calibrated_random_network(space.reference, space.settings, shape=(1, 8, 8), classes=10)[0]


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return [3 * torch.randn(count, 1, 8, 8, generator=generator) for count in (3, 3, 5)]


def exported(network, example):
    shapes = {"x": {0: torch.export.Dim("batch", min=2, max=64)}}
    return torch.export.export(network, (example,), dynamic_shapes=shapes).module()


PROGRAMS = {
    "torch.jit.trace": torch.jit.trace,
    "torch.export": exported,
    "make_fx": lambda network, example: make_fx(network)(example),
}


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_of_a_network_is_the_network(network, images, make, gradients):
    example, other, more = images
    with torch.set_grad_enabled(gradients):
        program = make(network, example)
    with torch.no_grad():
        for batch in (example, other) if make is PROGRAMS["make_fx"] else (example, other, more):
            assert torch.equal(program(batch), network(batch))
        assert network(other).std() > 0


def test_kernels_step_aside_while_a_trace_is_made(images):
    if native.library() is None:
        pytest.skip("no compiler")
    assert native.available(images[0])
    seen = []
    torch.jit.trace(lambda x: (seen.append(native.available(x)), x + 1)[1], images[0])
    assert seen[0] is False  # it runs again, outside of the trace, for comparison


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("decay_input", [False, True])
def test_recorded_neurons_have_the_same_spikes_and_gradients(reset, decay_input):
    neurons = {"tau": 3.0, "v_threshold": 0.7, "reset": reset, "decay_input": decay_input}
    x = torch.randn(4, 2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    class Sites(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(6, dtype=torch.float64)

        def forward(self, currents):
            return normalised_lif(lif(2 * currents, **neurons) + currents, self.norm, **neurons)

    spikes = Sites().train()
    example = torch.randn_like(x).requires_grad_()
    program = torch.jit.trace(spikes, example, check_trace=False)
    found = []
    for compute in (spikes, program):
        currents = x.clone().requires_grad_()
        fired = compute(currents)
        (fired * torch.arange(fired.numel()).view_as(fired).cos()).sum().backward()
        found.append((fired.detach(), currents.grad))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])
    assert found[0][1].abs().sum() > 0
