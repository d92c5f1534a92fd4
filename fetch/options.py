"""What fetching may cost: one frozen set of limits for every scheme."""

from __future__ import annotations

import dataclasses

MIB = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class FetchOptions:
    """Limits and politeness of an `ImageFetcher`.

    Attributes:
        max_image_bytes: A picture with more encoded bytes than this is rejected as too_large. Raising it lets bigger
            originals in and raises the memory one download may hold.
        connect_timeout_s: Seconds to open a connection. Lower gives up on dead hosts sooner; higher forgives far ones.
        read_timeout_s: Seconds without a single byte before an attempt fails. Lower frees a thread from a stalled
            server sooner; higher forgives servers that render pictures on demand.
        deadline_s: Seconds for one picture, redirects, retries and the pauses between them included; waiting for our
            own limits is not counted. This is what stops a server that drips bytes for ever, and the longest that one
            picture can hold a thread.
        attempts: Times one picture is tried before a passing failure becomes a reject. Each more forgives a flakier
            server and costs a dead one another round of timeouts.
        backoff_s: Upper end of the random pause after the first failure, in seconds; it doubles with each failure.
        max_backoff_s: Longest random pause, in seconds. A server's Retry-After may ask for more, up to the deadline.
        max_redirects: Redirects followed for one picture.
        connections_per_host: Simultaneous requests to one host. More is faster and less polite; each also keeps one
            idle connection open for reuse.
        parallel_fetches: Threads that call the fetcher at once. Each hides one server's latency and holds up to 1 MiB
            of a growing download.
        max_in_flight_bytes: Memory shared by all downloads that have grown beyond 1 MiB. More lets more big pictures
            arrive at once; all downloads together hold at most parallel_fetches MiB above it.
    """

    max_image_bytes: int = 32 * MIB
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0
    deadline_s: float = 120.0
    attempts: int = 4
    backoff_s: float = 0.5
    max_backoff_s: float = 20.0
    max_redirects: int = 5
    connections_per_host: int = 16
    parallel_fetches: int = 64
    max_in_flight_bytes: int = 256 * MIB

    def __post_init__(self) -> None:
        """Checks the limits against each other.

        Raises:
            ValueError: A limit is out of range.
        """
        may_be_zero = {"backoff_s", "max_backoff_s", "max_redirects"}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value < 0 or (value == 0 and field.name not in may_be_zero):
                floor = "zero or more" if field.name in may_be_zero else "more than zero"
                raise ValueError(f"{field.name} must be {floor}, found {value}")
        if self.max_in_flight_bytes < self.max_image_bytes:
            raise ValueError(
                f"max_in_flight_bytes must be at least max_image_bytes ({self.max_image_bytes}), "
                f"or the largest picture could never arrive; found {self.max_in_flight_bytes}"
            )
