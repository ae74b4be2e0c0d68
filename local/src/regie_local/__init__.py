"""PostgreSQL, NATS and a trace store as child processes, from wheels: for a laptop and for tests, never production."""
