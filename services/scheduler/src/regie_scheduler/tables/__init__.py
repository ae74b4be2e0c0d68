"""The scheduler's tables, a module a capability."""
