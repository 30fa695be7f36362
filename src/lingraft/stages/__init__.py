"""The stages of a run, in one direction: prepare, synthesise, train, decode, evaluate, publish."""
