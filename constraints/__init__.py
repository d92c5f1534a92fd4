"""Locked versions and digests, one file for each Python, with what writes and what installs them."""
