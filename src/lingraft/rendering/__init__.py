"""Messages and spans as token ids with weights, on disk and in previews."""
