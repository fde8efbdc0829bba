"""The packaged demo bundle and its gallery of pictograms."""
