"""REST, server-sent events and keys of Régie."""
