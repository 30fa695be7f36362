"""Handing on what a run has made: the files of a repository on the hub, and their way there."""
