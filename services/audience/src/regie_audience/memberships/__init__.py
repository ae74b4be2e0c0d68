"""Memberships: which profiles are in which segments, kept up with changes, filled and removed."""
