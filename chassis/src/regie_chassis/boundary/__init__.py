"""What comes in and goes out: calls, identities, ids, errors, texts and traces."""
