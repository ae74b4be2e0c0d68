"""Profiles and segments."""
