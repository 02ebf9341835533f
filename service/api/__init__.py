"""HTTP and nothing else: routes, schemas, problems."""
