"""The boundary of a process: calls, identities, ids, errors, texts and traces."""
