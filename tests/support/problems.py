"""Problem documents, as every error of the server is one."""

from __future__ import annotations

from tests.support.serving import Answer


def check_problem(answer: Answer) -> None:
    """Errors are problem documents, and repeat little of what was sent."""
    if answer.status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["status"] == answer.status
        assert len(answer.body) < 1_000 + 4 * 4096
