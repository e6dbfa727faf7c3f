"""From a model in memory to a version on disk."""
