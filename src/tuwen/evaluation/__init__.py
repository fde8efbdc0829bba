"""Datasets to metrics: how good a model is at retrieval and classification, with intervals and comparisons."""
