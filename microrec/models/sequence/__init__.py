"""Models of sequences of exposures: DMR and its baselines."""
