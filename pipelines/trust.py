"""--trust, --allow_local and --allow_hosts: what the user says of a catalog, and the policy that it comes to."""

from __future__ import annotations

import argparse
import dataclasses

from fetch.policy import TRUST, FetchPolicy, policy_for
from store.errors import UserError

TRUST_FLAGS = "--trust, --allow_local and --allow_hosts"


@dataclasses.dataclass(frozen=True, slots=True)
class Trust:
    """What a user allows a catalog to name; see fetch.policy.policy_for.

    Attributes:
        trust: auto or none.
        allow_local: Folders.
        allow_hosts: Hosts, and buckets such as gs://pictures.
    """

    trust: str = "auto"
    allow_local: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()

    def policy(self, base: str) -> FetchPolicy:
        """The policy of a catalog whose relative URIs start from `base`.

        Raises:
            UserError: A flag makes no sense.
        """
        try:
            return policy_for(base, trust=self.trust, allow_local=self.allow_local, allow_hosts=self.allow_hosts)
        except ValueError as error:
            raise UserError(f"--allow_hosts: {error}") from error

    def policy_of_table(self) -> FetchPolicy:
        """The policy of the catalog's own table, which the user has named: any host but the worst.

        Raises:
            UserError: A flag makes no sense.
        """
        return dataclasses.replace(self, trust="auto").policy("/")


AUTO = Trust()
"""What a user allows who gives no flag."""


def add_trust_flags(parser: argparse.ArgumentParser) -> None:
    """The three flags, in a group of their own."""
    group = parser.add_argument_group("what a catalog may make this machine read; docs/security.md")
    group.add_argument(
        "--trust",
        choices=TRUST,
        default="auto",
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


def trust_of(flags: argparse.Namespace) -> Trust:
    """What `add_trust_flags` has read.

    Raises:
        UserError: A flag makes no sense.
    """
    trust = Trust(flags.trust, tuple(flags.allow_local), tuple(flags.allow_hosts))
    trust.policy("/")  # told now, not after a table was read
    return trust
