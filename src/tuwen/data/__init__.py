"""Files to samples to arrays: finding, reading, decoding, pixels and tokens."""
