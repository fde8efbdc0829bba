"""Export: checkpoints to verified bundles, and bundles to other precisions and runtimes."""
