"""Posts before they leave, and their timeline."""
