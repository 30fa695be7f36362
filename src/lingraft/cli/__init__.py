"""The command line: one file a command, which parses options, calls the Python API and prints."""
