from __future__ import annotations

from index_builder.pages.evaluation_page import ConfusedPair, evaluation_html
from index_builder.search.retrieval_quality import measure_retrieval
from index_builder.search.rows import Hit
from tests.support.pages import HOSTILE, PIXEL, read_safe_page


def test_numbers_labels_and_confusions_are_shown() -> None:
    asked: list[int] = []

    def confused_pair(number: int) -> ConfusedPair:
        asked.append(number)
        return ConfusedPair(f"query {number}", PIXEL, Hit("i", "item", "a.jpg", 0.75, {"colour": "red"}, 0))

    answers = [["a", "b"], ["b", "a"], ["b"], ["b"], ["a"]]
    found = measure_retrieval(answers, ["a", "a", "a", "b", "c"], [2, 2, 2, 1, 0], 2)
    parsed = read_safe_page(evaluation_html(found, {"label": "colour"}, confused_pair, lambda _: None))
    assert asked == [1, 2]
    assert (parsed.classed("pair"), parsed.classed("query"), len(parsed.all("img"))) == (2, 2, 2)
    for wanted in (
        "0.5000",
        "recall@2",
        "mAP@2",
        "a \N{RIGHTWARDS ARROW} b 2 of 3",
        "query 1",
        "0.7500",
        "1 more were",
    ):
        assert wanted in parsed.text
    assert parsed.text.index("0.3333") < parsed.text.index("1.0000\N{EN DASH}1.0000")


def test_without_confusions_it_says_so() -> None:
    found = measure_retrieval([["a"]], ["a"], [1], 1)
    assert "Every first answer is right." in evaluation_html(found, {}, lambda _: NotImplemented, lambda _: None)


def test_hostile_labels_stay_text() -> None:
    found = measure_retrieval([["b"], [None]], [HOSTILE, HOSTILE], [1, 1], 1)
    hit = Hit(HOSTILE, HOSTILE, HOSTILE, 0.5, {}, 0)
    page = evaluation_html(found, {HOSTILE: HOSTILE}, lambda _: ConfusedPair(HOSTILE, None, hit), lambda _: None)
    parsed = read_safe_page(page)
    assert parsed.text.count(HOSTILE) == 13
    assert "a picture without label" in parsed.text
