"""One module per protocol the service speaks."""
