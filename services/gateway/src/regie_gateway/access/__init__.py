"""Access: API keys, rates of calls, and idempotent requests."""
