"""Observations, roll-ups and series."""
