"""Adapters put together with the base, or with each other."""
