"""Ways to obtain a translation from a model."""
