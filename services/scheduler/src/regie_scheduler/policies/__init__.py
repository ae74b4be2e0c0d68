"""Decisions of a workspace that the scheduler keeps to."""
