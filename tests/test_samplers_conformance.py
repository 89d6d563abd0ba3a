"""Optuna's published cases for third-party samplers."""

import pytest
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

from aspk.samplers import EvolutionarySampler, NSGA2Sampler, SurrogateSampler


class TestEvolutionarySampler(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return lambda: EvolutionarySampler(seed=0, population_size=2, top_k=2)


class TestNSGA2Sampler(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return lambda: NSGA2Sampler(seed=0, population_size=2)


class TestSurrogateSampler(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return lambda: SurrogateSampler(seed=0, n_startup_trials=2, pool_size=20)
