"""Versions while they serve: loaded, queued for, swapped."""
