"""The engine: what to run, running it, serving it, the command line."""
