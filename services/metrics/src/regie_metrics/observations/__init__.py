"""Observations: numbers read from the networks, their partitions and their roll-ups."""
