"""Fitting a network, and finding out what went wrong."""
