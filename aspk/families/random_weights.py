"""A network with random weights that computes something: for accounts without a checkpoint or a data set."""

from __future__ import annotations

import torch
from torch import Tensor

from aspk.errors import EvaluationError
from aspk.families.layers import calibrate, initialise
from aspk.families.mode import evaluation_mode
from aspk.families.network import Network
from aspk.families.registry import network_of, program_of
from aspk.space.genes import NetworkSettings, SubnetConfig

_LOWEST_RATE = 0.01
_STEP = 0.25  # of the shifts, in standard deviations of the currents that they are added to
_ROUNDS = 40


@torch.no_grad()
def calibrated_random_network(
    config: SubnetConfig,
    settings: NetworkSettings,
    *,
    shape: tuple[int, int, int],
    classes: int,
    seed: int = 0,
    images: int = 4,
) -> tuple[Network, Tensor]:
    """A network with random weights, calibrated on random images, in which every neuron site fires.

    Calibration alone leaves the attention neurons silent, since the spikes of random q, k and v hardly ever
    meet. So the shifts of the batch normalisations in front of silent sites are raised step by step.

    Args:
        config: the network.
        settings: what its search space fixes.
        shape: channels, height and width of the images.
        classes: number of classes.
        seed: seed of weights and images; the same seed gives the same network.
        images: number of images.

    Returns:
        The network in evaluation mode, and the images [B, C, H, W], standard normal.

    Raises:
        EvaluationError: a site stays silent however large the shifts.
    """
    network = network_of(config, settings, shape=shape, classes=classes)
    initialise(network, seed)
    program = program_of(config, settings, shape=shape, classes=classes)
    x = torch.randn(images, *shape, generator=torch.Generator().manual_seed(seed))
    for _ in range(_ROUNDS):
        # In training mode each pass normalises with the statistics of the batch, as after calibration.
        rates = _rates(network.train(), x)
        silent = [site for site, rate in rates.items() if rate < _LOWEST_RATE]
        if not silent:
            break
        for layer in {layer for site in silent for layer in program.drivers(site)}:
            network.get_parameter(f"{layer}.norm.bias").add_(_STEP)
    calibrate(network, x)
    silent = [site for site, rate in firing_rates(network, x).items() if not rate]
    if silent:
        raise EvaluationError(
            f"with random weights the neurons of {', '.join(silent)} do not fire: lower their thresholds"
        )
    return network, x


@torch.no_grad()
def firing_rates(network: Network, x: Tensor) -> dict[str, float]:
    """Mean firing rate of every neuron site in evaluation mode, by the name of the layer in front of it."""
    with evaluation_mode(network):
        return _rates(network, x)


def _rates(network: Network, x: Tensor) -> dict[str, float]:
    rates: dict[str, float] = {}

    def note(layer: str, inputs: tuple[Tensor, ...], spikes: Tensor | None) -> None:
        if spikes is not None:
            rates[layer] = float(spikes.mean(dtype=torch.float64))

    network(x, note)
    return rates
