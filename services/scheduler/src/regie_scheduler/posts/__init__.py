"""Posts: `reading` them and `planning` what becomes of them."""
