"""Operation counts and energy of a user's own torch module."""

from aspk.profiling.neurobench import NeuroBench
from aspk.profiling.profile import NeuronSite, Profile, profile_energy

__all__ = ["NeuroBench", "NeuronSite", "Profile", "profile_energy"]
