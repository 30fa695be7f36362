"""Recipes and the small data that comes with them."""
