"""A collection's codes in engines that people run already: PostgreSQL with pgvector, Milvus."""
