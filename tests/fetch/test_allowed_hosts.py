from __future__ import annotations

import pytest

from fetch.public_fetcher import PublicFetcher
from tests.support.public_fetching import OPTIONS

# --- allowed hosts


@pytest.mark.parametrize(
    "entry",
    [
        *("", " ", "*", "*.", ".", "..", ".example.com", "example..com", "https://images.example.com", "http:images"),
        *("images.example.com/", "images.example.com/a", "images.example.com?a", "user@images.example.com"),
        *("images.example.com:", "images.example.com:0", "images.example.com:65536", "images.example.com:http"),
        *("*images.example.com", "images.*.com", "*.*.example.com", "*.127.0.0.1", "*.[::1]", "images.example.com:*"),
        *("127.1", "2130706433", "0177.0.0.1", "0x7f.1", "10.0.0.0/8", "1.2.3.4.5", "::1", "[::1", "[fe80::1%eth0]"),
        *(
            "images example.com",
            "images.example.com ",
            "images.example.com\n",
            "-images.example.com",
            "a" * 64 + ".com",
        ),
        *("images.example.com,cdn.example.com", "\uff05.example.com", "images%2eexample.com", "\x00"),
    ],
)
def test_an_allowed_host_that_is_none_is_refused_at_once(entry: str) -> None:
    with pytest.raises(
        ValueError, match=r"allowed host: expected a name such as images\.example\.com.*found"
    ) as caught:
        PublicFetcher(["good.example.com", entry], OPTIONS)
    assert repr(entry) in str(caught.value)
