"""Files of other tools: PaddleClas configurations, and vectors of clip-retrieval, numpy and Parquet."""
