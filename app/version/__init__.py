"""A version as it lies on disk."""
