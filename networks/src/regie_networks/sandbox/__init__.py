"""The sandbox network: a stand-in for social networks (services/sandbox/README.md)."""
