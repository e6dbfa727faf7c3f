"""Studies of many runs: comparisons and reference tasks."""
