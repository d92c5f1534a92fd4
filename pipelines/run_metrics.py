"""A run's metrics in Prometheus' text format, for the textfile collector of a node exporter."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from store.errors import UserError
from store.location import as_store_error
from store.rejects import Reason
from store.runs import OUTCOMES, SUCCESSES, RunRecord

_PREFIX = "shelfmark_reindex_"
_LAST_SUCCESS = f"{_PREFIX}last_success_timestamp_seconds"
_READABLE_BY_ALL = 0o644  # the node exporter runs as another user
_FATES = ("embedded", "reused", "rejected")
_WORK = {
    "catalog_rows": "rows of the catalog",
    "fetched": "pictures whose bytes were read",
    "encoded": "pictures that went through the model",
    "unchanged": "rows reused without a fetch",
    "same_content": "rows reused after a fetch, their bytes being known",
    "stale": "rows that keep an earlier embedding, as their picture could not be had",
    "added": "rows that the published version did not have",
    "altered": "reused rows that say something else than in the snapshot before",
    "gone": "rows that left the catalog",
}


@dataclasses.dataclass(frozen=True, slots=True)
class _Metric:
    """A gauge: its name without prefix, what it says, and a value for each set of labels."""

    name: str
    says: str
    samples: tuple[tuple[dict[str, str], float], ...]

    def lines(self) -> Iterator[str]:
        name = _PREFIX + self.name
        yield f"# HELP {name} {self.says}"
        yield f"# TYPE {name} gauge"
        for labels, value in self.samples:
            inside = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
            yield f"{name}{{{inside}}} {_number(value)}" if labels else f"{name} {_number(value)}"


def check_metrics_file(path: str) -> None:
    """Refuses a file that no node exporter would read; to be asked before a long run.

    Raises:
        UserError: The name does not end in .prom, or its folder does not exist.
    """
    if not path.endswith(".prom"):
        raise UserError(
            f"--metrics_file: expected a name that ends in .prom, found {path}; a node exporter reads those"
        )
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise UserError(f"--metrics_file {path}: expected a folder, found none at {folder}; make it first")


def write_metrics_file(path: str, record: RunRecord, now: datetime.datetime) -> None:
    """Puts a run's metrics in place of those of the run before; a reader sees the old file or the whole new one.

    Of a run that did not succeed the time of the last success is taken from the file that is replaced.

    Raises:
        UserError: See `check_metrics_file`.
        StoreError: The file cannot be written.
    """
    check_metrics_file(path)
    target = Path(path).absolute()
    text = metrics_text(record, now, last_success_s=_last_success_s(target))
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")  # a name the node exporter does not read
    with as_store_error("write", path):
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), _READABLE_BY_ALL)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def _last_success_s(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
        found = re.search(rf"^{_LAST_SUCCESS} (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        with contextlib.suppress(ValueError):
            return float(found[1]) if found else 0.0
    return 0.0


def metrics_text(record: RunRecord, now: datetime.datetime, *, last_success_s: float = 0.0) -> str:
    """The metrics of a run, each a gauge.

    Args:
        record: Of the run.
        now: When it ended, where the record does not say.
        last_success_s: Unix time at which an earlier run succeeded; 0 where none did.
    """
    ended = now if record.ended_at is None else datetime.datetime.fromisoformat(record.ended_at)
    metrics = [*_times(record, ended.timestamp(), last_success_s), *_rows(record), *_quality(record), *_spent(record)]
    return "".join(f"{line}\n" for metric in metrics if metric.samples for line in metric.lines())


def _times(record: RunRecord, ended_s: float, last_success_s: float) -> Iterator[_Metric]:
    success_s = ended_s if record.outcome in SUCCESSES else last_success_s
    yield _one("last_run_timestamp_seconds", "Unix time at which the last run ended.", ended_s)
    yield _one(
        "last_success_timestamp_seconds",
        "Unix time at which a run last published or found nothing to do; 0 before the first.",
        success_s,
    )
    outcomes = {outcome: float(outcome == record.outcome) for outcome in OUTCOMES}
    yield _by("outcome", "How the last run ended: 1 for one outcome, 0 for the others.", "outcome", outcomes.items())


def _rows(record: RunRecord) -> Iterator[_Metric]:
    counts = record.counts
    fates = [(fate, counts[fate]) for fate in _FATES if fate in counts]
    yield _by("rows", "Rows of the catalog by how they ended.", "fate", fates)
    if "rejected" in counts:
        reasons = [
            ({"stage": reason.stage.value, "reason": reason.value}, record.rejected_by_reason.get(reason.value, 0))
            for reason in Reason
        ]
        yield _Metric("rejected_rows", "Rejected rows by stage and reason.", tuple(reasons))
    for name, says in _WORK.items():
        if name in counts:
            yield _one(name if name.endswith("rows") else f"{name}_rows", f"Last run: {says}.", counts[name])


def _quality(record: RunRecord) -> Iterator[_Metric]:
    if record.recall is not None:
        yield _one("recall", "Measured recall@k of the version the run built or found.", record.recall.measured)
        yield _one("recall_target", "The recall@k below which nothing is published.", record.recall.target)
    gates = record.gates
    measured = [(gate.gate, gate.value) for gate in gates if gate.value is not None]
    yield _by("gate_value", "What a gate measured.", "gate", measured)
    yield _by("gate_limit", "What a gate compares with.", "gate", [(gate.gate, gate.limit) for gate in gates])
    passed = [(gate.gate, float(gate.passed)) for gate in gates]
    yield _by("gate_passed", "Whether a gate let the run publish: 1 or 0.", "gate", passed)


def _spent(record: RunRecord) -> Iterator[_Metric]:
    yield _by("duration_seconds", "Wall time by step.", "stage", record.seconds.items())
    hours, price = record.cost.machine_hours_per_million, record.cost.per_million
    if hours is not None:
        yield _one("machine_hours_per_million", "Machine hours per million encoded pictures.", hours)
    if price is not None:
        yield _one("cost_per_million", "Estimated cost per million encoded pictures.", price)


def _one(name: str, says: str, value: float) -> _Metric:
    return _Metric(name, says, (({}, value),))


def _by(name: str, says: str, label: str, values: Iterable[tuple[str, float]]) -> _Metric:
    return _Metric(name, says, tuple(({label: key}, value) for key, value in values))


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
