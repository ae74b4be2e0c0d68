"""REST to the outside, and the events of everything as one stream."""
