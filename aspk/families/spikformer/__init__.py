"""The Spikformer: what it computes (``program``, without torch), and as a module (``network``)."""
