"""TORCH: the checkpoints of each family as their authors define them."""
