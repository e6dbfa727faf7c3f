"""Serves a windowcast model version over HTTP."""

__version__ = "0.1.0"
