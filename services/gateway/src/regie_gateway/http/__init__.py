"""The machinery of the edge: one connection, one request, one operation, and the document that describes them all."""
