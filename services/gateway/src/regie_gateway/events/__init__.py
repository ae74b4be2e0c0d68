"""The public event log, and the streams that follow it."""
