"""Rules: their form, and how Python, SQL and their author's eye read them. No table of their own."""
