"""The publisher's tables: a module for each capability. Migrations are compared with them."""
