"""Fetchers as their tests want them, and what they say no to."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Protocol

import pytest

from fetch.fetcher import FetchOptions, ImageFetcher
from fetch.policy import ON_REQUEST
from store.rejects import Rejected


class Fetches(Protocol):
    """What can be asked for the bytes of a picture."""

    def fetch(self, uri: str, /) -> object: ...


@contextlib.contextmanager
def opened(options: FetchOptions) -> Iterator[ImageFetcher]:
    """A fetcher that trusts every row, with the same jitter every time; closed at the end."""
    made = ImageFetcher(options, ON_REQUEST, jitter=random.Random(1))
    yield made
    made.close()


def rejection(fetcher: Fetches, uri: str) -> Rejected:
    """The reject that a URI ends as."""
    with pytest.raises(Rejected) as caught:
        fetcher.fetch(uri)
    return caught.value
