"""The cheapest code that meets a contract, measured on a sample of a user's own vectors. Knows no SQL, no HTTP."""
