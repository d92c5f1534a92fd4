"""From a snapshot of embeddings to a measured, published index, and the searcher that reads it."""
