"""Segments: named rules, their previews and their reads."""
