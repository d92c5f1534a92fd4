from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index_builder.build.plan import EXACT_BYTES, MAX_SHARD_ROWS, MOST_BLOCKS, MOST_DIMENSIONS, plan_index
from index_builder.search.tree import hash_blocks
from store.errors import UserError

GIB = 1 << 30


def test_a_small_catalog_is_searched_exactly() -> None:
    plan = plan_index(EXACT_BYTES // (2048 * 4), 2048, 8 * GIB, 0.95)
    assert (plan.kind, plan.shards, plan.dimensions) == ("exact", 1, ())
    assert plan_index(EXACT_BYTES // (2048 * 4) + 1, 2048, 8 * GIB, 0.95).kind == "scann"


def test_only_exact_search_can_promise_recall_one() -> None:
    assert plan_index(100_000, 2048, 8 * GIB, 1.0).kind == "exact"


def test_a_million_rows_fit_six_gibibytes_in_shards() -> None:
    plan = plan_index(1_000_000, 2048, 6 * GIB, 0.95, cpus=2)
    assert plan.shards > 1
    assert plan.workers == 2
    assert plan.memory_bytes <= 6 * GIB


def test_workers_share_what_memory_there_is() -> None:
    planned = [plan_index(1_000_000, 2048, gib * GIB, 0.95, cpus=4) for gib in (3, 4, 6, 64)]
    assert [plan.workers for plan in planned] == [1, 2, 3, 4]
    assert planned[-1].memory_bytes > 3 * GIB, "four at once, as if memory were no matter"


@given(
    rows=st.integers(20_000, 5_000_000), dim=st.integers(256, 4096), memory=st.integers(2, 64), cpus=st.integers(1, 64)
)
def test_as_many_shards_are_built_at_once_as_memory_holds(rows: int, dim: int, memory: int, cpus: int) -> None:
    limit = memory * GIB // 2
    try:
        plan = plan_index(rows, dim, limit, 0.95, cpus=cpus)
    except UserError:
        return
    if plan.kind == "exact":
        return
    alone = plan_index(rows, dim, limit, 0.95, cpus=1)
    assert (alone.workers, alone.shards) == (1, plan.shards)
    if plan.workers > 1:
        each = (plan.memory_bytes - alone.memory_bytes) // (plan.workers - 1)
        assert plan.memory_bytes <= limit
        assert plan.workers == min(cpus, plan.shards) or plan.memory_bytes + each > limit


@given(
    rows=st.integers(1, 200_000_000),
    dim=st.integers(1, 4096),
    memory=st.integers(0, 64 * GIB),
    cpus=st.integers(1, 64),
)
def test_every_plan_keeps_its_promises_or_refuses(rows: int, dim: int, memory: int, cpus: int) -> None:
    try:
        plan = plan_index(rows, dim, memory, 0.95, cpus=cpus)
    except UserError as error:
        if "--memory_limit" not in str(error):
            raise
        return
    spans = plan.spans()
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
    assert spans[-1][1] == rows
    assert all(0 < stop - start <= plan.shard_rows for start, stop in spans)
    assert plan.memory_bytes <= memory
    assert 1 <= plan.workers <= min(cpus, plan.shards)
    if plan.kind == "scann":
        assert plan.shard_rows <= MAX_SHARD_ROWS
        assert plan.blocks <= 256
        assert max(plan.dimensions) <= dim
        assert 16 * plan.leaves <= min(stop - start for start, stop in spans)


@given(st.integers(1, MOST_DIMENSIONS))
def test_blocks_cover_every_dimension_once(dimension: int) -> None:
    blocks = hash_blocks(dimension)
    assert sum(count * size for count, size in blocks) == dimension
    assert sum(count for count, _ in blocks) <= MOST_BLOCKS
    assert all(1 <= size <= 4 for _, size in blocks)


@given(rows=st.integers(20_000, 5_000_000), memory=st.integers(2 * GIB, 16 * GIB))
def test_less_memory_never_means_fewer_shards(rows: int, memory: int) -> None:
    assert plan_index(rows, 2048, memory, 0.95).shards >= plan_index(rows, 2048, 2 * memory, 0.95).shards


def test_too_little_memory_is_one_line_with_both_numbers() -> None:
    with pytest.raises(UserError, match=r"--memory_limit: expected at least [\d,]+ MiB.*found 100 MiB") as caught:
        plan_index(1_000_000, 2048, 100 << 20, 0.95)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dimensions", [0, 1, 2049, 600])
def test_dimensions_that_cannot_be(dimensions: int) -> None:
    with pytest.raises(UserError, match="--dimensions: expected 2 to 512"):
        plan_index(100_000, 2048, 8 * GIB, 0.95, dimensions=dimensions)
