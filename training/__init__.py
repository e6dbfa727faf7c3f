"""Makes, from a table of numbers, the model version that `app` serves."""
