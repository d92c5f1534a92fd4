"""Requests refuse what makes no sense, and are where defaults live."""

from __future__ import annotations

import dataclasses

import pytest

from fetch.options import FetchOptions
from pipelines.cli.commands import BY_NAME
from pipelines.cli.flag_types import request_of
from pipelines.rejects import RejectsRequest
from pipelines.requests import (
    EmbedRequest,
    EvaluateRequest,
    IndexRequest,
    PruneRequest,
    ReindexRequest,
    SearchChoices,
)
from pipelines.runs import RunsRequest
from store.errors import UserError


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (
            lambda: EmbedRequest("c", "s", max_reject_ratio=1.5),
            "max_reject_ratio: expected a number from 0 to 1, found 1.5",
        ),
        (lambda: EmbedRequest("c", "s", attempts=0), "attempts: expected a whole number from 1, found 0"),
        (lambda: EmbedRequest("c", "s", deadline_s=float("inf")), "deadline_s"),
        (lambda: EmbedRequest("c", "s", batch_size=2.5), "batch_size"),  # type: ignore[arg-type]
        (lambda: EmbedRequest("c", "s", precision="float8"), "precision: expected one of auto, float32"),
        (lambda: EmbedRequest("c", "s", resize="shrink"), "resize: expected one of"),
        (lambda: EmbedRequest("c", "s", trust="all").trusted(), "trust: expected one of"),
        (lambda: IndexRequest("s", target_recall=0), "target_recall"),
        (lambda: IndexRequest("s", k=0), "k: expected a whole number from 1"),
        (lambda: IndexRequest("s", k=True), "k: expected a whole number from 1"),
        (lambda: ReindexRequest("c", "s", max_shrink=-0.1), "max_shrink"),
        (lambda: ReindexRequest("c", "s", keep=0), "keep"),
        (lambda: ReindexRequest("c", "s", k=0), "k: expected a whole number from 1"),
        (lambda: ReindexRequest("c", "s", max_reject_ratio=2), "max_reject_ratio"),
        (lambda: SearchChoices(group_by="shop"), "group_by: expected one of item, found 'shop'"),
        (lambda: EvaluateRequest("s", label="x", k=-1), "k: expected"),
        (lambda: PruneRequest("s", keep=0), "keep"),
        (lambda: RunsRequest("s", last=0), "last"),
        (lambda: RejectsRequest("s", limit=0), "limit"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(make, field):
    with pytest.raises(UserError) as refused:
        make()
    assert str(refused.value).startswith(field)


def test_what_makes_sense_at_the_edge_is_taken():
    request = ReindexRequest("c", "s", max_shrink=0, min_overlap=1, wait_s=float("inf"), cost_per_hour=0, batch_size=0)
    assert request.fetch_options() == FetchOptions()
    assert EmbedRequest("c", "s", max_image_bytes=1 << 40).fetch_options().max_in_flight_bytes == 1 << 40


@pytest.mark.parametrize(
    ("command", "request_type", "required"),
    [
        ("embed", EmbedRequest, {"catalog": "c", "store": "s"}),
        ("index", IndexRequest, {"store": "s"}),
        ("reindex", ReindexRequest, {"catalog": "c", "store": "s"}),
        ("evaluate", EvaluateRequest, {"store": "s", "label": "l"}),
        ("prune", PruneRequest, {"store": "s", "keep": 2}),
        ("runs", RunsRequest, {"store": "s"}),
        ("rejects", RejectsRequest, {"store": "s"}),
    ],
)
def test_without_flags_a_command_asks_for_what_the_request_defaults_to(command, request_type, required):
    words = [word for name, value in required.items() for word in (f"--{name}", str(value))]
    flags, _ = BY_NAME[command].parser().parse_known_args(words)
    by_command = dataclasses.asdict(request_of(request_type, flags))
    assert {name: tuple(v) if isinstance(v, list) else v for name, v in by_command.items()} == dataclasses.asdict(
        request_type(**required)
    )
