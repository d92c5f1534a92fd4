"""What lies on disk and what it means: schemas, manifests, paths, atomic publication. Needs pyarrow and numpy only."""
