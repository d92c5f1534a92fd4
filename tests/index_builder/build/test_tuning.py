from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from index_builder.build.exact_neighbours import Queries
from index_builder.build.tuning import Trial, answers, fastest, latencies_ms, pareto
from index_builder.search.engine import ExactEngine, Settings
from index_builder.search.own_rows import without_own
from tests.support.unit_vectors import unit_vectors

SETTINGS = Settings(leaves_to_search=3, first_candidates=40, candidates=20, k=5)
NUMBERS = st.integers(1, 9)
TRIALS = st.lists(
    st.builds(lambda recall, ms: Trial(64, SETTINGS, recall / 10, float(ms)), NUMBERS, NUMBERS), min_size=1, max_size=12
)


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 1000))
def test_a_row_is_left_out_of_its_own_answers_and_no_other_row_is(queries: int, k: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    found = np.stack([generator.permutation(12)[: k + 1] for _ in range(queries)])
    own = generator.integers(0, 12, queries)
    kept = without_own(found, own, k)
    for number in range(queries):
        assert kept[number].tolist() == [row for row in found[number] if row != own[number]][:k]


def test_answers_are_the_nearest_other_rows() -> None:
    vectors = unit_vectors(30, seed=1)
    rows = np.array([0, 7, 29])
    scores = vectors[rows] @ vectors.T
    scores[np.arange(3), rows] = -2
    found = answers(ExactEngine(vectors), Queries(rows, vectors[rows]), 4)
    np.testing.assert_array_equal(found, np.argsort(-scores, axis=1)[:, :4])


@given(TRIALS)
def test_the_front_holds_what_no_other_beats(trials: list[Trial]) -> None:
    front = pareto(trials)
    beaten = {
        (one.recall, one.latency_ms)
        for one in trials
        for other in trials
        if (other.recall, -other.latency_ms) != (one.recall, -one.latency_ms)
        and other.recall >= one.recall
        and other.latency_ms <= one.latency_ms
    }
    points = [(trial.recall, trial.latency_ms) for trial in front]
    assert points == sorted({(trial.recall, trial.latency_ms) for trial in trials} - beaten)


@given(TRIALS, NUMBERS)
def test_the_fastest_that_reaches_a_recall_else_the_best(trials: list[Trial], tenths: int) -> None:
    chosen = fastest(trials, tenths / 10)
    reaching = [trial.latency_ms for trial in trials if trial.recall >= tenths / 10]
    if reaching:
        assert chosen.recall >= tenths / 10
        assert chosen.latency_ms == min(reaching)
    else:
        assert chosen.recall == max(trial.recall for trial in trials)


@given(st.floats(0.5, 1), st.floats(0.001, 10))
def test_a_trial_is_read_as_it_was_written(recall: float, latency_ms: float) -> None:
    trial = Trial(96, SETTINGS, round(recall, 5), round(latency_ms, 5))
    assume(trial.latency_ms > 0)
    assert Trial.from_point(trial.to_point(), 5) == trial


def test_each_query_is_timed_alone_and_no_more_than_asked_for() -> None:
    vectors = unit_vectors(20, seed=2)
    queries = Queries(np.arange(6), vectors[:6])
    engine = ExactEngine(vectors)
    assert [len(latencies_ms(engine, queries, 3, most)) for most in (0, 4, 50)] == [0, 4, 6]
    assert (latencies_ms(engine, queries, 3, 6) > 0).all()
