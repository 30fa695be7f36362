"""One run in its folder, in one direction: prepare, synthesise, train, decode, evaluate, publish."""
