"""Storage engines behind an index, one module per engine."""
