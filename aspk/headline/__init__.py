"""Found networks against the hand-made one: searches, training, comparison, write-up, from one file."""

from aspk.headline.plan import Headline, load_headline
from aspk.headline.run import run_headline
from aspk.headline.write_up import write_up

__all__ = ["Headline", "load_headline", "run_headline", "write_up"]
