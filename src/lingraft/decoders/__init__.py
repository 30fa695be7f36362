"""Decoders: programs of one or more requests that turn a source into a translation, one small file each."""
