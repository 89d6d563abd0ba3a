"""Networks trained alone: retraining, whether a supernet's ranking can be trusted, and exports."""
