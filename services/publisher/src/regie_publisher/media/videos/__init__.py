"""Videos: told from other files and measured by their boxes, without decoding anything."""
