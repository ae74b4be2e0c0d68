"""The publisher's RPCs, a module a capability: message → use case → message."""
