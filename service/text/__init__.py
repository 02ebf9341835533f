"""Text to vectors: one file an encoder."""
