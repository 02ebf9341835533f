"""Arrays in, slots out. Knows no SQL and no HTTP."""
