"""What is served, what it may cost and what it may fetch: one frozen set of plain values, which workers get pickled."""

from __future__ import annotations

import dataclasses

from fetch.trust import AUTO, Trust
from store.machine import processors

MIB = 1 << 20

MAX_K = 1000
"""Answers to one query; what a page or a re-ranking step may want, and no more than a search can spell out at once."""

MAX_VECTORS = 64
"""Vectors in one request."""

MAX_DOCUMENT_BYTES = 4 * MIB
"""Of a JSON body: as many vectors as there may be, of 4,096 numbers each."""

UNCOUNTED_BYTES = MIB // 4
"""Of each body, that `max_uploads_bytes` leaves out: clients that stop in the middle of large bodies take no room from
small ones. What is left out has its limit in `max_connections`."""


@dataclasses.dataclass(frozen=True, slots=True)
class ServeOptions:
    """How a published index is served.

    Attributes:
        store_uri: Holds the index.
        pictures: Whether query pictures are embedded. Without, no model is loaded: some 2 GB of memory less.
        pictures_base: What the catalog's relative image URIs start from; None for the catalog's own folder.
        allowed_hosts: Of http(s) URLs in requests and in the catalog; none turns them off.
        trust: What else the catalog may name.
        poll_interval_s: Seconds between looks at CURRENT. Less follows a publication sooner and asks the store more.
        batch_size: Pictures the model takes at once, 0 for what suits the hardware. More is faster under load, and
            holds up who comes just after a batch has begun.
        batch_delay_ms: How long pictures that are decoded already wait for those that are being decoded. Nobody waits
            when nobody else is coming.
        max_waiting_pictures: Pictures from the moment their bytes have arrived to the moment they are embedded; the
            next one is turned away. More turns fewer away and lets each wait longer; each may hold its encoded bytes.
        max_waiting_queries: Searches by vector or id from their body's last byte to their answer; the next one is
            turned away. At a few thousand a second, what waits is answered within a tenth of one.
        max_upload_bytes: Of one request's body; a JSON document has at most 4 MiB.
        max_uploads_bytes: Of all bodies that are arriving or waiting to be decoded, without the first 256 KiB of each.
        max_pixels: Of a query picture or one that a thumbnail is made of. One in work takes up to about 9 bytes per
            pixel, in each decoding thread; there are `threads` for each of the two kinds.
        timeout_s: Seconds for one request, from its first byte to the last of its answer.
        header_timeout_s: Seconds for a request's head to be complete, and for a client to read on.
        max_connections: Open at once; more are closed as they come.
        grace_s: Seconds that running requests get to finish when the server is told to stop.
        thumbnail_cache_bytes: Memory for finished thumbnails.
        api_keys: Any of them opens the API; none leaves it open to all.
        cors_origins: Whose pages may call the API from a browser.
        workers: Processes; each has its own model, the index's files are shared between them.
        runtime_folder: Where workers leave what they tell each other; "" with one worker.
        threads: Processors this process may use.
        quiet: Log what goes wrong and nothing else.
    """

    store_uri: str
    pictures: bool = True
    pictures_base: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    trust: Trust = AUTO
    poll_interval_s: float = 10.0
    batch_size: int = 0
    batch_delay_ms: float = 5.0
    max_waiting_pictures: int = 64
    max_waiting_queries: int = 256
    max_upload_bytes: int = 16 * MIB
    max_uploads_bytes: int = 256 * MIB
    max_pixels: int = 64_000_000
    timeout_s: float = 30.0
    header_timeout_s: float = 20.0
    max_connections: int = 4096
    grace_s: float = 20.0
    thumbnail_cache_bytes: int = 64 * MIB
    api_keys: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    cors_origins: tuple[str, ...] = ()
    workers: int = 1
    runtime_folder: str = ""
    threads: int = dataclasses.field(default_factory=processors)
    quiet: bool = False
