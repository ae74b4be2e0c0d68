"""The numbers of published posts."""
