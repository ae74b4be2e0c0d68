"""What people and integrators reach over HTTP, one folder an area."""
