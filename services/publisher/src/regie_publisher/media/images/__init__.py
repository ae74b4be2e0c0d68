"""Pictures: normalised once at upload and made smaller for networks, in child processes with limits (ADR 0022).

`pool` is the entry. The modules of a child process import neither gRPC nor the database, so that it starts fast and
holds no secret.
"""
