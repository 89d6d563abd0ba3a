"""Which axis is time: every published layout gives the same bill, and contradictions are refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from aspk.errors import ProfilingError
from aspk.profiling import profile_energy
from aspk.profiling.layout import layout_of
from aspk.profiling.neurons import Neurons


class Reads(nn.Module):
    """One network over steps that takes [T, B, ...], [B, T, ...] or [T*B, ...]."""

    def __init__(self, layout, body, steps):
        super().__init__()
        self.layout, self.body, self.steps = layout, body, steps

    def forward(self, x):
        if self.layout == "[B, T, ...]":
            x = x.transpose(0, 1).contiguous()
        if self.layout == "[T*B, ...]":
            x = x.unflatten(0, (self.steps, -1))
        return self.body(x).mean(0)


def network(shape):
    torch.manual_seed(0)
    first = layer.Conv2d(2, 4, 3, padding=1) if len(shape) == 3 else layer.Linear(shape[0], 12)
    body = nn.Sequential(first, neuron.IFNode(v_threshold=0.3), layer.Flatten(), layer.LazyLinear(3))
    functional.set_step_mode(body, "m")
    with torch.no_grad():
        body(torch.zeros(1, 1, *shape))
        for parameter in body.parameters():
            parameter.abs_()
    functional.reset_net(body)
    return body


layer.LazyLinear = nn.LazyLinear  # works on the last axis, [T, B, D]
LAYOUTS = ("[T, B, ...]", "[B, T, ...]", "[T*B, ...]")


@pytest.mark.parametrize("shape", [(2, 6, 6), (7,)], ids=["frames", "three dimensions"])
@pytest.mark.parametrize(("steps", "images"), [(16, 1), (16, 4), (4, 16), (5, 3), (3, 3)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_bill(layout, steps, images, shape):
    frames = (torch.rand(steps, images, *shape, generator=torch.Generator().manual_seed(1)) < 0.3).float()
    body = network(shape)
    expected = profile_energy(Reads("[T, B, ...]", body, steps), frames, time_first=True)
    given_ = {"[B, T, ...]": frames.transpose(0, 1), "[T*B, ...]": frames.flatten(0, 1)}.get(layout, frames)
    found = profile_energy(Reads(layout, body, steps), given_.contiguous())
    assert (found.time_steps, found.images) == (steps, images)
    assert found.layers == expected.layers
    assert found.energy_mj() == expected.energy_mj() > 0
    assert sum(site.spikes for site in found.sites) > 0
    assert layout in found.layout or steps == images or images == 1


@pytest.mark.parametrize("options", [{"time_first": True}, {"time_first": False, "time_steps": 5}])
def test_contradictions_are_refused(options):
    frames = torch.rand(4, 16, 2, 6, 6)  # batch first
    module = Reads("[B, T, ...]", network((2, 6, 6)), 16)
    with pytest.raises(ProfilingError, match=r"ran 16 steps on a batch of 4.*time_first=.*time_steps="):
        profile_energy(module, frames, **options)
    assert profile_energy(module, frames, time_first=False, time_steps=16).time_steps == 16


def site(steps, batch, calls=1):
    return Neurons("LIFNode", calls=[(steps, batch)] * calls, steps=[0.0] * steps * calls)


@given(
    steps=st.integers(2, 20),
    images=st.integers(1, 20),
    layout=st.sampled_from([*LAYOUTS, "[B, ...]"]),
    step_by_step=st.booleans(),
    rest=st.integers(2, 3),
)
def test_the_axes_follow_from_what_the_neurons_ran(steps, images, layout, step_by_step, rest):
    leading = {
        "[T, B, ...]": (steps, images),
        "[B, T, ...]": (images, steps),
        "[T*B, ...]": (steps * images,),
        "[B, ...]": (images,),
    }[layout]
    shape = (*leading, *([97] * (rest if len(leading) == 2 else 3)))
    ran = [site(1, images, calls=steps) if step_by_step else site(steps, images)] * 3
    convolved = layout == "[B, ...]"
    found = layout_of(shape, ran, time_first=None, time_steps=None, convolved=convolved)
    assert (found.time_steps, found.images) == (steps, images)
    assert found.name == layout or steps == images or images == 1


def test_windows_and_shared_neurons_are_multiples():
    windows = [site(4, 6), site(4, 6 * 49), site(4, 6 * 49)]
    found = layout_of((6, 3, 32, 32), windows, time_first=None, time_steps=None)
    assert (found.time_steps, found.images, found.static) == (4, 6, True)
    shared = [dataclasses.replace(site(4, 6), calls=[(4, 6)] * 3)]
    assert layout_of((6, 3, 32, 32), shared, time_first=None, time_steps=None).time_steps == 4


def test_without_neurons_the_layout_is_assumed_and_said():
    conv = nn.Conv2d(3, 2, 3)
    profile = profile_energy(nn.Sequential(conv), torch.rand(2, 3, 8, 8))
    assert "assumed: no neurons were found" in str(profile)
    volume = profile_energy(nn.Conv3d(1, 2, 3), torch.rand(2, 1, 8, 8, 8))
    assert (volume.images, volume.time_steps) == (2, 1)  # the convolution took the first axis for its batch
    frames = profile_energy(Reads("[T, B, ...]", nn.Sequential(nn.Flatten(2), nn.Linear(128, 3)), 4),
                            torch.rand(4, 2, 2, 8, 8))  # fmt: skip
    assert (frames.images, frames.time_steps) == (2, 4)


def test_the_layout_stands_in_the_printout():
    module = Reads("[B, T, ...]", network((7,)), 5)
    assert "Input read as [B, T, ...] with T = 5 (as its neurons ran), 3 images." in str(
        profile_energy(module, torch.rand(3, 5, 7))
    )
