"""Documents under documents/ were written by releases whose manifests held plain dictionaries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import DamagedError, StoreError
from store.index import IndexManifest
from store.measured import Cost, CurvePoint, ExactConfig, GateVerdict, Latency, Recall, ShardEntry, TreeConfig
from store.runs import OUTCOMES, RunRecord
from tests.support.versions import version_manifest

DOCUMENTS = Path(__file__).parent / "documents"
INDEXES = sorted(DOCUMENTS.glob("index_*.json"))
RUNS = sorted(DOCUMENTS.glob("run_*.json"))


def index_fields(name: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((DOCUMENTS / f"index_{name}.json").read_bytes())
    return fields


def read(fields: dict[str, Any]) -> IndexManifest:
    return IndexManifest.from_json(json.dumps(fields).encode())


@pytest.mark.parametrize("path", INDEXES, ids=lambda path: path.stem)
def test_a_manifest_that_an_older_release_wrote_comes_back_byte_for_byte(path: Path) -> None:
    data = path.read_bytes()
    assert IndexManifest.from_json(data).to_json() == data


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_runs_record_that_an_older_release_wrote_comes_back_byte_for_byte(path: Path) -> None:
    data = path.read_bytes()
    assert RunRecord.from_json(data).to_json() == data


def test_there_is_a_record_of_each_outcome_and_a_manifest_of_each_kind() -> None:
    assert {RunRecord.from_json(path.read_bytes()).outcome for path in RUNS} == set(OUTCOMES)
    assert {IndexManifest.from_json(path.read_bytes()).config.kind for path in INDEXES} == {"exact", "scann"}


def test_what_is_read_is_typed() -> None:
    exact, tree = read(index_fields("exact")), read(index_fields("tree_anew_after_all"))
    assert isinstance(exact.config, ExactConfig)
    assert exact.config.dimensions is None
    assert isinstance(tree.config, TreeConfig)
    assert "under the target 0.95" in str(tree.config.anew_because)
    assert (tree.config.dimensions, tree.config.leaves, tree.config.leaves_to_search) == (48, 51, 13)
    assert exact.shards == (ShardEntry("shard-00000", exact.vectors),)
    assert isinstance(exact.latency, Latency)
    assert exact.recall.trials is None
    assert tree.recall.result == Recall(10, 0.95, 0.977)
    for point in (*(tree.recall.curve or ()), *(tree.recall.trials or ())):
        assert isinstance(point, CurvePoint)
        assert point.candidates is not None
    refused = RunRecord.from_json((DOCUMENTS / "run_refused.json").read_bytes())
    assert refused.gates[-1] == GateVerdict("overlap", 0.6, 1.0, False)
    assert refused.cost.per_million is None
    assert RunRecord.from_json((DOCUMENTS / "run_running.json").read_bytes()).cost == Cost()


@pytest.mark.parametrize("where", ["config", "recall", "latency", "encoder"])
def test_a_key_that_a_later_release_added_inside_survives(where: str) -> None:
    fields = index_fields("tree_anew")
    fields[where]["later"] = {"of": [1, None, "x"]}
    fields["shards"][0]["device"] = "ssd"
    fields["recall"]["curve"][0]["watts"] = 3.5
    assert json.loads(read(fields).to_json()) == fields


def test_a_key_that_a_later_release_added_inside_a_record_survives() -> None:
    fields = json.loads((DOCUMENTS / "run_refused.json").read_bytes())
    fields["gates"][0]["unit"] = "rows"
    fields["recall"]["queries"] = 30
    fields["cost"]["spot"] = 0.3
    assert json.loads(RunRecord.from_json(json.dumps(fields).encode()).to_json()) == fields


MEASURED = st.floats(0, 1) | st.integers(0, 1)


@given(st.builds(GateVerdict, st.text(), st.none() | MEASURED, MEASURED, st.booleans()))
def test_a_gate_that_measured_nothing_keeps_its_null(gate: GateVerdict) -> None:
    assert list(gate.to_dict()) == ["gate", "value", "limit", "passed"]
    assert GateVerdict.from_dict(json.loads(json.dumps(gate.to_dict()))) == gate


@given(st.builds(Recall, st.integers(1), MEASURED, MEASURED, st.none() | st.integers(0), st.none() | st.text()))
def test_whole_numbers_stay_whole_and_what_is_absent_stays_absent(recall: Recall) -> None:
    written = json.dumps(recall.to_dict())
    assert json.dumps(Recall.from_dict(json.loads(written)).to_dict()) == written
    assert None not in recall.to_dict().values()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"config": None}, "TypeError"),
        ({"config": []}, "TypeError"),
        ({"config": {}}, "KeyError.*kind"),
        ({"config": {"kind": "scann", "dimensions": 48}}, "KeyError.*leaves"),
        ({"config": {"kind": "exact", "plan": [1]}}, r"plan: expected Mapping, found \[1\]"),
        ({"recall": {"k": 10, "measured": 0.9}}, "KeyError.*target"),
        ({"recall": {"k": 10, "target": "high", "measured": 0.9}}, "target: expected float, found 'high'"),
        ({"recall": {"k": 10.5, "target": 0.9, "measured": 0.9}}, "k: expected int, found 10.5"),
        ({"recall": {"k": 10, "target": 0.9, "measured": True}}, "measured: expected float, found True"),
        ({"recall": {"k": 10, "target": 0.9, "measured": 0.9, "curve": {}}}, "curve: expected"),
        ({"recall": {"k": 10, "target": 0.9, "measured": 0.9, "curve": [7]}}, "expected a JSON object, found 7"),
        ({"latency": {}}, "KeyError.*single_ms_p50"),
        ({"shards": [{"name": "shard-00000"}]}, "KeyError.*rows"),
        ({"shards": None}, "TypeError"),
        ({"shards": ["shard-00000"]}, "TypeError"),
    ],
)
def test_a_malformed_part_is_one_line(change: dict[str, Any], says: str) -> None:
    with pytest.raises(DamagedError, match=f"^not an index manifest: .*{says}") as caught:
        read({**json.loads(version_manifest(1, 1, 0.97).to_json()), **change})
    assert "\n" not in str(caught.value)


def test_a_kind_of_a_later_release_is_not_called_damaged() -> None:
    """`prune` deletes damaged versions."""
    fields = {**json.loads(version_manifest(1, 1, 0.97).to_json()), "config": {"kind": "graph", "links": 16}}
    with pytest.raises(StoreError, match="expected exact or scann, found 'graph'; use the Shelfmark") as caught:
        read(fields)
    assert not isinstance(caught.value, DamagedError)


@pytest.mark.parametrize(("weights", "untrained"), [("random:0", True), ("random", True), ("imagenet", False)])
def test_random_weights_are_untrained(weights: str, untrained: bool) -> None:
    fields = index_fields("exact")
    fields["encoder"]["weights"] = weights
    assert read(fields).untrained is untrained
    del fields["encoder"]["weights"]
    assert not read(fields).untrained
