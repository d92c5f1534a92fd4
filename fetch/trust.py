"""What a user allows a catalog to name, and the policy that it comes to."""

from __future__ import annotations

import dataclasses

from fetch.policy import FetchPolicy, policy_for
from store.errors import UserError


@dataclasses.dataclass(frozen=True, slots=True)
class Trust:
    """What a user allows a catalog to name; see fetch.policy.policy_for. Travels to workers.

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
