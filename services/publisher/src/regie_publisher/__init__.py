"""Connected channels and exactly-once delivery to every network."""
