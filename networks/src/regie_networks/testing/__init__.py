"""Fakes of the collaborators that a connector has, for tests."""
