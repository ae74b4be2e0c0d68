"""Who may call, how often, and each request once."""
