"""How a translation is asked for and read back."""
