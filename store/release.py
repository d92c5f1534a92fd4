"""Which release this is: the one place that says so; setup.py, the server and the command read it from here."""

from __future__ import annotations

VERSION = "0.1.0"
