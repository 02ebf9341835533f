"""Builds and searches on the machines of a Ray cluster."""
