"""What every Régie service stands on."""
