"""What every part stands on: errors, registries, validation, hashes, records, progress. No torch."""

__version__ = "0.1.0"
