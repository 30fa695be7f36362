"""Sufficient statistics, resampling and tests, with NumPy alone."""
