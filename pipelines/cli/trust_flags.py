"""--trust, --allow_local and --allow_hosts, as every command has them that fetches what a catalog names."""

from __future__ import annotations

import argparse

from fetch.policy import TRUST
from fetch.trust import AUTO


def add_trust_flags(parser: argparse.ArgumentParser) -> None:
    """The three flags, in a group of their own."""
    group = parser.add_argument_group("what a catalog may make this machine read; docs/security.md")
    group.add_argument(
        "--trust",
        choices=TRUST,
        default=AUTO.trust,
        help="auto: a catalog on this machine may name any file and any host, one from http(s) or a bucket no file "
        "and no host with private addresses; none: the same for every catalog, but for what lies beside it",
    )
    group.add_argument(
        "--allow_local",
        nargs="+",
        action="extend",
        default=[],
        metavar="DIR",
        help="folders whose files it may name all the same",
    )
    group.add_argument(
        "--allow_hosts",
        nargs="+",
        action="extend",
        default=[],
        metavar="HOST",
        help="hosts that may have private addresses, such as images.internal:8080 or *.example.com; and gs://bucket",
    )
