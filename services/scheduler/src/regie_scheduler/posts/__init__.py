"""Posts: planning, the due loop, the reports of their deliveries, and reads."""
