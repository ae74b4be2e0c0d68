"""Plans posts and hands them to the publisher when they are due."""
