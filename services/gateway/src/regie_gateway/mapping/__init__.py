"""Messages and rows as JSON values."""
