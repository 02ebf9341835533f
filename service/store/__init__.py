"""SQL and nothing else: tables and the statements over them."""
