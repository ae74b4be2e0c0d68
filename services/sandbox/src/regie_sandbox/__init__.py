"""A stand-in social network for trying and testing Régie."""
