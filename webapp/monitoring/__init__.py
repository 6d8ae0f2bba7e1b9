"""Metrics, and what the console shows of the last minutes."""
