"""Runs and benches watched from outside, by a process that only reads their folders."""
