"""The one thing that a request for a thumbnail may say: how large."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from serving.problem import Problem
from serving.search_request import parse_size


def size_of(*pairs: tuple[str, str]) -> int:
    return parse_size(pairs, (160, 320))


def test_a_size_is_one_of_a_few():
    assert (size_of(), size_of(("size", "160")), size_of(("size", "320"))) == (160, 160, 320)


@pytest.mark.parametrize(
    "pairs",
    [
        [("size", "")],
        [("size", "161")],
        [("size", "0160")],
        [("size", " 160")],
        [("width", "160")],
        [("size", "160"), ("size", "320")],
        [("size", "160"), ("v", "1")],
    ],
)
def test_another_size_is_refused(pairs: Sequence[tuple[str, str]]):
    with pytest.raises(Problem, match=r"^expected size=160\|320, found ") as problem:
        size_of(*pairs)
    assert problem.value.status == 422
