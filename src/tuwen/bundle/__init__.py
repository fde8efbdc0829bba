"""The model on disk: bundles, other layouts, the hub, and the catalogue of known models."""
