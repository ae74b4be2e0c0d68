"""Plans posts and says when they are due."""
