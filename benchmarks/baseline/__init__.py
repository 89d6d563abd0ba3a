"""Found networks against the hand-made one: searches, training, comparison, write-up, from one file."""

from benchmarks.baseline.plan import Headline, load_headline
from benchmarks.baseline.run import run_headline
from benchmarks.baseline.write_up import publish, write_up

__all__ = ["Headline", "load_headline", "publish", "run_headline", "write_up"]
