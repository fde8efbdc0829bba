"""Zero-shot classification: images and labels to probabilities."""
