"""What `python -m benchmarks forecasts` is made of: tasks, contenders, baselines and an independent verdict."""
