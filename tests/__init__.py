"""The suite: flat, one file a noun."""
