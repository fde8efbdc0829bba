"""Checkpoints of each model family in PyTorch, as their authors define them."""
