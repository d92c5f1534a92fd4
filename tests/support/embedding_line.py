"""Steps for an embedding line that need no pictures, and a run of it."""

from __future__ import annotations

import numpy as np

from encoder.decode import Picture
from fetch.source_version import Fetched
from store.rejects import Reason, Rejected
from transforms.embedding_line import EmbeddingLine, LineLimits
from transforms.picture_outcomes import PictureJob

LIMITS = LineLimits(parallel_fetches=4, parallel_decodes=2, max_waiting_bytes=1000)


def fetch_number(uri: str, known: str) -> Fetched | None:
    if int(uri) % 7 == 3:
        raise Rejected(Reason.NOT_FOUND, uri)
    return None if known else Fetched(uri.encode(), "v" + uri)


def decode_number(data: bytes) -> Picture:
    number = int(data)
    if number % 5 == 4:
        raise Rejected(Reason.NOT_AN_IMAGE, str(number))
    return Picture(np.full((4, 4, 3), number % 256, np.uint8), number, 2)


def run_line(line: EmbeddingLine, rows: range) -> list:
    outcomes = [outcome for index in rows for outcome in line.push(PictureJob(str(index)))]
    return outcomes + list(line.flush())
