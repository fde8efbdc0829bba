"""ARRAYS -> VECTORS: one seam, several runtimes behind it, one encoder on top."""
