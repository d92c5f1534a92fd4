"""Who may ask."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from serving.keys import ApiKeys
from serving.problem import Problem

KEYS = ApiKeys(["first-key", "second key", "ключ"])


def headers(**given: str | bytes) -> Headers:
    """As they come from the wire."""
    raw = [
        (name.replace("_", "-").encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in given.items()
    ]
    return Headers(raw=raw)


@pytest.mark.parametrize(
    "given",
    [
        {"authorization": "Bearer first-key"},
        {"authorization": "bearer first-key"},
        {"authorization": "Bearer  second key "},
        {"x_api_key": "first-key"},
        {"x_api_key": "second key"},
        {"authorization": "Bearer ключ"},
        {"x_api_key": "ключ"},
        {"authorization": "Bearer first-key", "x_api_key": "wrong"},
        {"authorization": "Basic Zm9vOmJhcg==", "x_api_key": "first-key"},  # of a proxy in front
    ],
)
def test_a_key_opens(given):
    KEYS.check(headers(**given))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "none"),
        ({"authorization": ""}, "none"),
        ({"authorization": "Bearer"}, "none"),
        ({"authorization": "Bearer "}, "none"),
        ({"x_api_key": ""}, "none"),
        ({"authorization": "Basic first-key"}, "none"),
        ({"authorization": "first-key"}, "none"),
        ({"authorization": "Bearer first-ke"}, "another"),
        ({"authorization": "Bearer first-key2"}, "another"),
        ({"authorization": "Bearer FIRST-KEY"}, "another"),
        ({"x_api_key": "Bearer first-key"}, "another"),
        ({"authorization": "Bearer wrong", "x_api_key": "first-key"}, "another"),
        ({"x_api_key": b"\xff\xfe"}, "another"),
        ({"authorization": b"Bearer \xd0"}, "another"),
    ],
)
def test_anything_else_does_not(given, found):
    with pytest.raises(Problem) as problem:
        KEYS.check(headers(**given))
    assert problem.value.status == 401
    assert problem.value.headers == {"WWW-Authenticate": "Bearer"}
    assert problem.value.detail == (
        f"expected an API key as Authorization: Bearer KEY or X-API-Key: KEY, found {found}"
    )


def test_without_keys_everyone_may_ask():
    ApiKeys([]).check(headers())
    ApiKeys([]).check(headers(authorization="Bearer anything"))
