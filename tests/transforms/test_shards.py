from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from transforms.shards import MAX_SHARD_ROWS, MIN_SHARD_ROWS, SHARDS_WANTED, count_shards, shard_of


@given(st.integers(0, 10**9))
def test_shards_are_neither_too_many_nor_too_large(rows):
    shards = count_shards(rows)
    assert shards >= 1
    assert rows <= shards * MAX_SHARD_ROWS
    if shards > SHARDS_WANTED + 1:
        assert rows / shards > MAX_SHARD_ROWS / 2
    elif shards > 1:
        assert rows / shards >= MIN_SHARD_ROWS / 2


def test_a_shard_is_known_by_the_id_alone():
    assert [shard_of(f"{n:020x}", 8) for n in range(6)] == [shard_of(f"{n:020x}", 8) for n in range(6)]
    counts = [0] * 8
    for n in range(8000):
        counts[shard_of(f"{n:020x}", 8)] += 1
    assert min(counts) > 850
    assert max(counts) < 1150
