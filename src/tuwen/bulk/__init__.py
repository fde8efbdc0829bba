"""Bulk embedding: millions of samples to vector files or an index."""
