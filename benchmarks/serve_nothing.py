"""An HTTP server that reads every request and does nothing with it: shows what the load generator itself can reach.

python -m benchmarks.serve_nothing
"""

from __future__ import annotations

import asyncio
import re
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD_ENDS = b"\r\n\r\n"


class Nothing(asyncio.Protocol):
    """One connection, kept open; requests come one after another, each with a Content-Length."""

    def __init__(self) -> None:
        self._head = b""
        self._missing_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers as soon as the last byte of a body is there.

        Raises:
            ValueError: A request does not say how long its body is.
        """
        if not self._missing_bytes:
            self._head += data
            head, end, body = self._head.partition(_HEAD_ENDS)
            if not end:
                return
            length = _LENGTH.search(head)
            if length is None:
                raise ValueError(f"expected a Content-Length, found {head[:200]!r}")
            self._head, data, self._missing_bytes = b"", body, int(length[1])
        self._missing_bytes -= len(data)
        if not self._missing_bytes:
            self._transport.write(ANSWER)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Nothing, "127.0.0.1", 0)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
