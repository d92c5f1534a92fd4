from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest

from benchmarks.serve_nothing import ANSWER, Nothing

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"


def answered(pieces):
    transport = Mock(spec=asyncio.Transport)
    connection = Nothing()
    connection.connection_made(transport)
    counts = []
    for piece in pieces:
        connection.data_received(piece)
        counts.append(transport.write.call_count)
    assert all(call.args == (ANSWER,) for call in transport.write.call_args_list)
    return counts


def test_each_request_is_answered_at_its_last_byte_however_it_is_cut():
    whole = HEAD + b"12345"
    assert answered([whole, whole]) == [1, 2]
    assert answered([bytes([byte]) for byte in whole])[-2:] == [0, 1]
    assert answered([HEAD + b"12", b"345", HEAD, b"12345"]) == [0, 1, 1, 2]


def test_a_request_without_a_length_is_refused():
    with pytest.raises(ValueError, match="expected a Content-Length"):
        answered([b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"])
