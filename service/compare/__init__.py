"""Codecs side by side on a user's own vectors: read, train, measure, say who keeps more. Knows no server."""
