"""Stems of several widths behind the same first convolution: what they share is a part of wider rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from spaces import SMALL

from aspk.engines import NativeEngine, Population
from aspk.families import Supernet, calibrate
from aspk.space import space_from_dict


def space_of(family):
    data = SMALL.to_json() | {"settings": {"family": family, "patch_size": 2, "attention_scale": 1.0}}
    data["network"] |= {"embed_dim": [48, 96, 192], "depth": [1], "time_steps": [2]}
    data["network"] |= {"stem_convs": [2, 3], "stem_fraction": [0.125, 0.25, 0.5]}
    data["network"] |= {"stem_pooling": ["early", "late"]}
    data["block"] |= {"mlp_ratio": [1], "v_threshold": [0.5]}
    data["reference"] |= {"embed_dim": 48, "depth": 1, "time_steps": 2, "mlp_ratio": 1, "v_threshold": 0.5}
    data["reference"] |= {"stem_convs": 2, "stem_fraction": 0.5, "stem_pooling": "late"}
    return space_from_dict(data)


@pytest.mark.parametrize("family", ["spikformer", "membrane"])
@pytest.mark.parametrize("pooling", ["early", "late"])
def test_narrow_stems_beside_wider_ones(family, pooling):
    """48, 96 and 192 channels, in 1, 2 and 3 words of 64, all read the same 24 channels."""
    if not NativeEngine.available(torch.float64):
        pytest.skip("needs a C++ compiler")
    space = space_of(family)
    supernet = Supernet(space, shape=(1, 8, 8), classes=4, seed=1).double().eval()
    with torch.no_grad():
        for parameter in supernet.network.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.5)
    generator = torch.Generator().manual_seed(2)
    calibration, x = (torch.rand(n, 1, 8, 8, dtype=torch.float64, generator=generator) for n in (5, 3))
    configs = [
        replace(space.reference, embed_dim=width, stem_fraction=24 / width, stem_pooling=pooling)
        for width in (48, 96, 192)
    ]
    population = Population(supernet, configs, NativeEngine(dtype=torch.float64))
    population.calibrate(calibration)
    logits = population.run(x)
    for config in configs:
        network = calibrate(supernet.extract(config), calibration)
        with torch.no_grad():
            torch.testing.assert_close(logits[config], network(x), rtol=1e-9, atol=1e-12)
