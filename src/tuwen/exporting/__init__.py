"""CHECKPOINT -> BUNDLE: graphs, precisions, proof."""
