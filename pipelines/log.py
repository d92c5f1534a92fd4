"""Where use cases say what goes on: the command line shows it on stderr, a program configures it like any logger."""

from __future__ import annotations

import logging

LOG = logging.getLogger("shelfmark")
