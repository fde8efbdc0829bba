"""Files of other tools: PaddleClas configurations, and vector files of FAISS and clip-retrieval."""
