"""Typed records, readers, checks and language facts."""
