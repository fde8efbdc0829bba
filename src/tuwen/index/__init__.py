"""Vectors to hits: rows are stored, found and removed, without a model."""
