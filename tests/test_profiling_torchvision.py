"""Networks of torchvision: every multiply-accumulate that torch's own counter counts, nothing left out."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aspk.profiling import profile_energy

NETWORKS = ["resnet18", "mobilenet_v3_small", "convnext_tiny", "swin_t", "shufflenet_v2_x0_5", "densenet121"]


@pytest.mark.parametrize("name", NETWORKS)
def test_operations_are_those_of_torchs_counter(name):
    torch.manual_seed(0)
    network = torchvision.models.get_model(name).eval()
    x = torch.randn(2, 3, 64, 64)
    profile = profile_energy(network, x)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x)
    ours = sum(layer.operations * layer.repeats for layer in profile.layers)
    assert 2 * 2 * ours == counter.get_total_flops()  # two images, two operations each
    assert profile.not_counted == profile.unrecognised == profile.offline == ()
    assert profile.layers[0].source == "image"
    assert profile.layers[-1].kind == "head"


def test_a_vision_transformers_fast_path_is_counted_too():
    """torch's counter sees neither the fused attention layer nor the fused kernel: both are switched off."""
    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5
    ).eval()
    x = torch.randn(2, 3, 32, 32)
    profile = profile_energy(network, x)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            network(x)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    ours = sum(layer.operations * layer.repeats for layer in profile.layers)
    assert 2 * 2 * ours == counter.get_total_flops()
    assert profile.not_counted == ()
