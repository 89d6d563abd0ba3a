"""Products of a training step against PyTorch's layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aspk.families.products import convolution, linear

CASES = {
    "few weights": (linear, nn.Linear(12, 20), (4, 3, 5, 12)),
    "many weights": (linear, nn.Linear(96, 128), (4, 3, 5, 96)),
    "one step": (linear, nn.Linear(96, 128), (1, 3, 5, 96)),
    "colour": (convolution, nn.Conv2d(3, 6, kernel_size=3, padding=1, bias=False), (5, 3, 8, 9)),
    "grey": (convolution, nn.Conv2d(1, 6, kernel_size=3, padding=1, bias=False), (5, 1, 8, 9)),
}


def results(function, layer, x, weights):
    """Output, and gradients of the input and the parameters."""
    x = x.clone().requires_grad_()
    y = function(x, layer)
    return y.detach(), *torch.autograd.grad((y * weights).sum(), (x, *layer.parameters()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES)
def test_products_and_their_gradients_are_the_layer_s(case, dtype):
    function, layer, shape = CASES[case]
    layer = layer.to(dtype).train()
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(shape, generator=generator, dtype=dtype)
    weights = torch.randn(layer(x).shape, generator=generator, dtype=dtype)
    ours = results(function, layer, x, weights)
    theirs = results(lambda x, layer: layer(x), layer, x, weights)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


@pytest.mark.parametrize("case", CASES)
def test_evaluation_runs_the_layer_itself(case):
    function, layer, shape = CASES[case]
    layer = layer.float()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():  # as calibration does in training mode
        assert torch.equal(function(x, layer.train()), layer(x))
    assert torch.equal(function(x, layer.eval()), layer(x))


@pytest.mark.parametrize("channels", [1, 3])
def test_maps_of_a_training_step_have_their_channels_last_in_memory(channels):
    layer = nn.Conv2d(channels, 6, kernel_size=3, padding=1).train()
    y = convolution(torch.randn(5, channels, 8, 9), layer)
    assert y.movedim(-3, -1).is_contiguous()
