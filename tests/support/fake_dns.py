"""Names that mean what a test says."""

from __future__ import annotations

import socket
from typing import Any


class Resolver:
    """Stands in for `socket.getaddrinfo`: names of the test have the answers given, in turn; the last one stays.

    IP addresses, in whichever form the system's resolver understands, are left to it.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.lookups: list[str] = []
        self._real = socket.getaddrinfo

    def __call__(self, host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        self.lookups.append(host)
        answers = self.answers.get(host)
        if answers is None:
            return self._real(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in found
        ]
