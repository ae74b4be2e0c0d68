"""The event stream as an operation."""
