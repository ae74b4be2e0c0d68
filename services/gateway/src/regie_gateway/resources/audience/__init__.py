"""The people whom posts are for, and segments of them."""
