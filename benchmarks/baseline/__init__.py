"""Found networks against the hand-made one: searches, trainings, comparison and write-up from one file."""

from benchmarks.baseline.plan import Comparison, load_comparison
from benchmarks.baseline.run import run_comparison
from benchmarks.baseline.write_up import publish, write_up

__all__ = ["Comparison", "load_comparison", "publish", "run_comparison", "write_up"]
