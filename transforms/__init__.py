"""The journey of a catalog row, one PTransform per step."""
