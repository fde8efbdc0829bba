"""VECTORS -> HITS: what is stored, found, removed. Never touches a model."""
