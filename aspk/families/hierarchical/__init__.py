"""Hierarchical networks: what they compute (``program``), and as a module (``network``)."""
