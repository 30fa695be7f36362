"""Translation metrics, one family a file."""
