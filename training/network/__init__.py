"""The stacked LSTM: its layers, and how they are put together."""
