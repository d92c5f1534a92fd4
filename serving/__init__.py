"""A published index behind HTTP and a web page."""
