"""What computes forecasts."""
