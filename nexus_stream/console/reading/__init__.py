"""Queries on the index. Nothing here writes."""
