"""A folder of images or a list of texts to rows of an index."""
