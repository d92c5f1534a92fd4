"""Picture bytes to pixels to embedding: the only code that decodes, resizes, normalises or runs a model."""
