"""The network: its layers, and how they are put together."""
