"""Whether a supernet's ranking of networks can be trusted.

``statistics`` needs neither torch nor a supernet; reports read verdicts with it.
"""
