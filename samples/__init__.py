"""Draws the demonstration catalog: made-up products, as many as asked for, each seen from several sides."""
