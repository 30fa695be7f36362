"""Weights from weights: models of one base put together without training."""
