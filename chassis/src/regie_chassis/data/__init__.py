"""PostgreSQL: connections, migrations, bulk statements, pages and retention."""
