"""PAIRS -> CHECKPOINT: contrastive training, from pictures and their captions to towers that export can take."""
