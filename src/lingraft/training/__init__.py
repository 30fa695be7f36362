"""Training: batches by token budget, span losses, a crash-safe loop, and tuners."""
