"""A service as a process: its settings, its loops and its life."""
