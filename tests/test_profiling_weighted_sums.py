"""Interpolation, sampling and distances: products by hand, exact ones by derivatives of an output."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from aspk.energy import PAPER, STRICT, EnergyModel, energy_table, load_energy_model
from aspk.profiling import profile_energy

EXACT = EnergyModel(padding="exact", attention="exact")


class Calls(nn.Module):
    """A function of a call's inputs."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *x):
        return self.function(*x)


def spikes(*shape, seed=0):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.3).float()


def weights_used(function, x):
    """How many weights other than 0 read each value of one image, from the derivatives of every output."""
    jacobian = torch.autograd.functional.jacobian(lambda y: function(y).flatten(), x.double())
    return (jacobian.abs() > 1e-9).sum(0)


# name: options of F.interpolate, input, and products of one image: outputs times weights of an output
INTERPOLATIONS = {
    "linear": ({"size": 9, "mode": "linear"}, (2, 3, 5), 3 * 9 * 2),
    "bilinear": ({"size": (7, 9), "mode": "bilinear"}, (2, 3, 4, 5), 3 * 63 * 4),
    "bilinear, half": ({"scale_factor": 0.5, "mode": "bilinear"}, (2, 3, 8, 8), 3 * 16 * 4),
    "aligned": ({"size": 7, "mode": "bilinear", "align_corners": True}, (2, 3, 4, 4), 3 * 49 * 4),
    "bicubic": ({"scale_factor": 2, "mode": "bicubic"}, (2, 3, 5, 5), 3 * 100 * 16),
    "trilinear": ({"size": (3, 4, 5), "mode": "trilinear"}, (2, 1, 2, 2, 3), 60 * 8),
    # To a third: a triangle of 6 pixels around the centre of one, so 5 are inside.
    "antialiased": ({"size": 4, "mode": "bilinear", "antialias": True}, (2, 3, 12, 12), 3 * 16 * 5 * 5),
}


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_interpolation(name):
    options, shape, operations = INTERPOLATIONS[name]
    function = lambda x: F.interpolate(x, **options)  # noqa: E731  # a shorter name for it
    x = spikes(*shape) * 2.5
    profile = profile_energy(Calls(function), x, time_first=False)
    (layer,) = profile.layers
    assert (layer.name, layer.kind, layer.source) == ("Calls.interpolation.1", "linear", "image")
    assert layer.operations == operations
    assert profile.not_counted == ()
    used = sum(weights_used(function, image[None])[0] * (image != 0) for image in x).sum()
    assert layer.effective_macs == pytest.approx(float(used) / len(x))


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_spikes_are_interpolated_by_accumulates(name):
    """Values behind a comparison are spikes; each is added once for every weight that reads it."""
    options, shape, operations = INTERPOLATIONS[name]
    function = lambda x: F.interpolate(x, **options)  # noqa: E731  # as above
    x = spikes(*shape)
    profile = profile_energy(Calls(lambda x: function((x > 0.5).float())), x, time_first=False)
    (layer,) = profile.layers
    assert layer.source == "spikes"
    read = sum(float((weights_used(function, image[None])[0] * image).sum()) for image in x) / len(x)
    assert energy_table([layer], EXACT)[0].ac == pytest.approx(read)
    assert energy_table([layer], PAPER)[0].ac == pytest.approx(float(x.mean()) * operations)
    script = load_energy_model("spikingformer_script")
    assert energy_table([layer], script)[0].mj == 0  # its name filter sees no such module


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(*[st.integers(2, 6)] * 2),
    out=st.tuples(*[st.integers(1, 9)] * 2),
    mode=st.sampled_from(["bilinear", "bicubic"]),
    align=st.booleans(),
    antialias=st.booleans(),
)
def test_interpolation_of_any_size(size, out, mode, align, antialias):
    def function(x):
        return F.interpolate(x, out, mode=mode, align_corners=align, antialias=antialias)

    x = torch.ones(1, 1, *size)
    (layer,) = profile_energy(Calls(function), x, time_first=False).layers
    used = float(weights_used(function, x).sum())
    assert layer.exact_operations == pytest.approx(used)
    assert layer.operations >= used


def test_moving_values_is_no_product():
    module = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 1))
    profile = profile_energy(module, torch.rand(1, 1, 3, 3))
    assert [layer.name for layer in profile.layers] == ["1"]
    sampled = profile_energy(
        Calls(lambda x: F.grid_sample(x, x[..., :2].permute(0, 2, 1, 3)[..., :2], mode="nearest") @ x),
        torch.rand(1, 4, 4, 4),
    )
    assert [layer.kind for layer in sampled.layers] == ["attention"]
    assert sampled.not_counted == ()


def test_the_head_is_the_last_layer_with_weights():
    """Not the interpolation of its map, as of a segmentation."""
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 1), nn.Upsample(scale_factor=2, mode="bilinear")
    )
    profile = profile_energy(module, torch.rand(2, 1, 6, 6))
    assert [layer.kind for layer in profile.layers] == ["conv", "head", "linear"]
    assert profile.layers[2].parameters == 0


GRID = torch.rand(2, 6, 5, 2, generator=torch.Generator().manual_seed(3)) * 2.4 - 1.2  # some lie outside


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("align", [True, False])
def test_sampling_at_fixed_positions(mode, align):
    taps = {"bilinear": 4, "bicubic": 16}[mode]
    x = spikes(2, 3, 4, 7)

    def function(x, grid=GRID):
        return F.grid_sample(x, grid.to(x.dtype), mode=mode, align_corners=align)

    profile = profile_energy(Calls(lambda x: function((x > 0.5).float())), x, time_first=False)
    (layer,) = profile.layers
    assert (layer.name, layer.kind, layer.source) == ("Calls.sample.1", "linear", "spikes")
    assert layer.operations == 3 * 30 * taps
    read = sum(
        float((weights_used(lambda y, i=i: function(y, GRID[i : i + 1]), x[i : i + 1])[0] * x[i]).sum())
        for i in range(2)
    )
    assert energy_table([layer], EXACT)[0].ac == pytest.approx(read / 2)


@pytest.mark.parametrize("padding", ["border", "reflection"])
def test_positions_outside_read_what_the_padding_puts_there(padding):
    x = torch.ones(1, 1, 4, 4)
    far = torch.full((1, 1, 1, 2), 3.3)
    profile = profile_energy(Calls(lambda x: F.grid_sample(x, far, padding_mode=padding)), x)
    assert profile.layers[0].exact_operations == 4


def test_a_spatial_transformer_multiplies_two_activations():
    """Positions that depend on the image: theta by positions, then an image by its weights."""

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.locate, self.head = nn.Linear(16, 6), nn.Linear(16, 2)

        def forward(self, x):
            theta = self.locate(x.flatten(1)).view(-1, 2, 3)
            grid = F.affine_grid(theta, [len(x), 1, 4, 4], align_corners=False)
            return self.head(F.grid_sample(x, grid, align_corners=False).flatten(1))

    profile = profile_energy(Transformer(), torch.rand(2, 1, 4, 4), time_first=False)
    found = [(layer.name, layer.kind, layer.operations) for layer in profile.layers]
    assert found == [
        ("locate", "linear", 16 * 6),
        ("Transformer.linear.1", "linear", 16 * 2 * 3),
        ("Transformer.sample.1", "attention", 16 * 4),
        ("head", "head", 16 * 2),
    ]
    assert profile.not_counted == ()


@pytest.mark.parametrize("rows", [5, 30])  # torch computes more than 25 by a matrix product
@pytest.mark.parametrize(("p", "multiplies"), [(2.0, True), (3.0, True), (1.0, False), (0.0, False)])
def test_distances_between_activations(rows, p, multiplies):
    """A difference, its square and their sum: d multiply-accumulates for each pair."""
    x, y = torch.randn(2, rows, 3), torch.randn(2, 4, 3)
    profile = profile_energy(Calls(lambda x, y: torch.cdist(x @ x.mT @ x, y @ y.mT @ y, p=p)), (x, y))
    found = [layer for layer in profile.layers if "distance" in layer.name]
    assert [layer.operations for layer in found] == [rows * 4 * 3] * multiplies
    assert all((layer.kind, layer.source) == ("attention", "analog") for layer in found)
    assert profile.not_counted == ()


def test_distances_to_learned_prototypes_are_a_head():
    class Prototypes(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.prototypes = nn.Linear(6, 3), nn.Parameter(torch.randn(4, 3))

        def forward(self, x):
            return -torch.cdist(self.first(x), self.prototypes)

    profile = profile_energy(Prototypes(), torch.randn(2, 6))
    head = profile.layers[-1]
    assert (head.kind, head.operations, head.parameters) == ("head", 4 * 3, 12)
    assert energy_table([head], STRICT)[0].mac == 12


def test_distances_within_a_batch():
    """10 pairs of 5 rows; those of equal values need no product."""
    x = torch.tensor([[0.0, 0.5, 1.5]] * 2 + [[0.0, 2.5, 3.5]] * 3)
    profile = profile_energy(Calls(F.pdist), x)
    (layer,) = profile.layers
    assert layer.operations * profile.images == 10 * 3
    assert layer.effective_macs * profile.images == 6 * 2  # between 2 and 3 rows, two values differ


def test_norms_are_products_element_by_element():
    x = torch.randn(2, 6)
    module = nn.Sequential(nn.Linear(6, 4), Calls(lambda x: F.pairwise_distance(x, x + 1)))
    (squares,) = (row for row in profile_energy(module, x).elementwise if row.kind == "multiplication")
    assert squares.operations == 4
