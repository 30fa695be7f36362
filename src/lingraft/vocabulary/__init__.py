"""Learning pieces and markers for the tokenizer of a base."""
