"""An evaluator that is a formula: a search problem without a supernet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from aspk.metrics import Metrics
from aspk.space import SearchSpace
from aspk.space.genes import BlockConfig, SubnetConfig

_PICOJOULES_PER_SPIKE_OPERATION = 0.9  # an addition at 45 nm (Horowitz 2014)
_TOKENS = 16


class FormulaEvaluator:
    """Accuracy and energy as smooth formulas of the network: a search problem without a supernet.

    For block b with width d, threshold v and time constant tau, over T steps and L blocks::

        rate_b    = 0.5 exp(-0.35 v sqrt(tau))                        firing rate
        target    = 0.5 exp(-0.5) T ** -0.2 L ** -0.1                 best rate: deep and long nets want less
        quality_b = exp(-ln(rate_b / target) ** 2 / 0.5) * heads
        heads     = 1 - 0.1 * (log2(d / num_heads) - 4) ** 2 / 4      heads want to be 16 wide
        capacity  = (d / d_max) ** 0.4 (T / T_max) ** 0.25 * sum_b quality_b mlp_ratio ** 0.3 / sqrt(L)
        accuracy  = 1/C + (1 - 1/C) (1 - exp(-1.6 capacity))
        energy    = 0.9 pJ * 16 tokens * T * sum_b rate_b (4 + 2 mlp_ratio) d ** 2, and the stem's

    More width, steps, blocks and MLP raise both, so they conflict; thresholds and time constants have an
    optimum that depends on the architecture.
    """

    def __init__(self, space: SearchSpace, *, noise: float = 0.0, seed: int = 0, classes: int = 10) -> None:
        """Make an evaluator.

        Args:
            space: the networks' space, whose largest width and T set the scale.
            noise: standard deviation of the accuracy's error, which is a function of network and seed.
            seed: of the noise.
            classes: number of classes C.
        """
        self._space = space
        self._noise = noise
        self._seed = seed
        self._classes = classes
        self._widest = float(max(space.network["embed_dim"]))
        self._longest = float(max(space.network["time_steps"]))

    def evaluate(self, configs: Sequence[SubnetConfig]) -> list[Metrics]:
        """See :class:`~aspk.evaluation.Evaluator`."""
        return [self._metrics(config) for config in configs]

    def _metrics(self, config: SubnetConfig) -> Metrics:
        width, steps = config.embed_dim, config.time_steps
        rates = [_rate(block.v_threshold, block.tau) for block in config.blocks]
        sizes = [(4 + 2 * block.mlp_ratio) * width**2 for block in config.blocks]
        stem_rate, stem_size = _rate(config.stem_v_threshold, config.stem_tau), 9 * width**2 / 4
        per_step = stem_rate * stem_size + sum(r * size for r, size in zip(rates, sizes, strict=True))
        neurons = [(5 + block.mlp_ratio) * width * _TOKENS for block in config.blocks]
        spikes = steps * sum(r * n for r, n in zip(rates, neurons, strict=True))
        return Metrics(
            accuracy=self._accuracy(config, rates),
            energy_mj=_PICOJOULES_PER_SPIKE_OPERATION * 1e-9 * _TOKENS * steps * per_step,
            parameters=int(stem_size + sum(sizes)),
            operations=int(steps * _TOKENS * (stem_size + sum(sizes))),
            spikes=spikes,
            firing_rate=spikes / (steps * sum(neurons)),
        )

    def _accuracy(self, config: SubnetConfig, rates: Sequence[float]) -> float:
        target = 0.5 * math.exp(-0.5) * config.time_steps**-0.2 * config.depth**-0.1
        quality = sum(
            _quality(config, block, rate, target) for block, rate in zip(config.blocks, rates, strict=True)
        )
        scale = (config.embed_dim / self._widest) ** 0.4 * (config.time_steps / self._longest) ** 0.25
        capacity = scale * quality / math.sqrt(config.depth)
        chance = 1 / self._classes
        accuracy: float = chance + (1 - chance) * (1 - math.exp(-1.6 * capacity))
        return float(min(1.0, max(0.0, accuracy + self._error(config))))

    def _error(self, config: SubnetConfig) -> float:
        if self._noise == 0:
            return 0.0
        genotype = self._space.encode(config).tolist()
        return float(np.random.default_rng([self._seed, *genotype]).normal(0.0, self._noise))


def _rate(v_threshold: float, tau: float) -> float:
    return 0.5 * math.exp(-0.35 * v_threshold * math.sqrt(tau))


def _quality(config: SubnetConfig, block: BlockConfig, rate: float, target: float) -> float:
    heads = 1 - 0.1 * (math.log2(config.embed_dim / block.num_heads) - 4) ** 2 / 4
    return float(math.exp(-(math.log(rate / target) ** 2) / 0.5) * heads * block.mlp_ratio**0.3)
