"""Networks with membrane shortcuts: what they compute (``program``), and as a module (``network``)."""
