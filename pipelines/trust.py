"""What to say of rows that name what their catalog may not."""

from __future__ import annotations

from collections.abc import Mapping

from store.rejects import Reason

TRUST_FLAGS = "--trust, --allow_local and --allow_hosts"


def why_not_allowed(rejected_by_reason: Mapping[str, int], before: str = "") -> str:
    """What to do about rows that name what their catalog may not; "" where there are none."""
    count = rejected_by_reason.get(Reason.NOT_ALLOWED.value, 0)
    if not count:
        return ""
    rows = "1 row names" if count == 1 else f"{count:,} rows name"
    return f"{before}{rows} what this catalog may not make us read; see {TRUST_FLAGS}"
