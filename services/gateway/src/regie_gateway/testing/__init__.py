"""Fakes of the services behind the gateway: real gRPC, with memory instead of a database."""
