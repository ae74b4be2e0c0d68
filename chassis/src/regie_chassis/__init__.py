"""The foundation of every Régie service."""
