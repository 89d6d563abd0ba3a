"""Optuna's published cases for third-party samplers, on every sampler of a study file."""

import pytest
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

from aspk.samplers import sampler_class
from aspk.spec.samplers import SAMPLERS

# Small ones, so that the cases' few trials lead beyond the random start.
SMALL = {
    "surrogate": {"n_startup_trials": 2, "pool_size": 20},
    "nsga2": {"population_size": 2},
    "evolutionary": {"population_size": 2, "top_k": 2},
}


class TestSamplers(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture(params=SAMPLERS)
    def sampler(self, request):
        return lambda: sampler_class(request.param)(seed=0, **SMALL.get(request.param, {}))
