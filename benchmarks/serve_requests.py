"""What a load generator saw, request by request, and the figures made of it."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

OK = 200
REFUSALS = (429, 503)
_DURATION, _DROPPED, _UNANNOUNCED = "http_req_duration", "dropped_iterations", "refused_without_retry_after"


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time; both ends in seconds since 1970."""

    began_s: float
    ended_s: float

    @property
    def length_s(self) -> float:
        """Seconds from one end to the other."""
        return self.ended_s - self.began_s


@dataclasses.dataclass(frozen=True, slots=True)
class Requests:
    """n requests in the order in which they ended.

    Attributes:
        ended_s: float64[n], seconds since 1970.
        duration_ms: float64[n], from the first byte sent to the last received.
        status: int64[n], 0 where no answer came.
        not_offered: Requests that a steady rate called for and the load generator had nobody free to send.
        unannounced: Refusals that came without a Retry-After.
    """

    ended_s: npt.NDArray[np.float64]
    duration_ms: npt.NDArray[np.float64]
    status: npt.NDArray[np.int64]
    not_offered: int = 0
    unannounced: int = 0

    def __len__(self) -> int:
        return len(self.ended_s)

    @property
    def began_s(self) -> npt.NDArray[np.float64]:
        """float64[n], seconds since 1970."""
        return self.ended_s - self.duration_ms / 1000

    @property
    def errors(self) -> int:
        """How many ended otherwise than with 200."""
        return int((self.status != OK).sum())

    def where(self, mask: npt.NDArray[np.bool_]) -> Requests:
        """Those that bool[n] picks; what was counted for all of them stays."""
        return dataclasses.replace(
            self, ended_s=self.ended_s[mask], duration_ms=self.duration_ms[mask], status=self.status[mask]
        )

    def with_status(self, *wanted: int) -> Requests:
        """Those that ended with one of these."""
        return self.where(np.isin(self.status, wanted))

    def ended_in(self, window: Window) -> Requests:
        """Those whose answer came within."""
        return self.where((self.ended_s >= window.began_s) & (self.ended_s < window.ended_s))

    def overlapping(self, windows: Sequence[Window]) -> npt.NDArray[np.bool_]:
        """bool[n]: which were under way at any moment of any of the windows."""
        began_s, found = self.began_s, np.zeros(len(self), bool)
        for window in windows:
            found |= (began_s <= window.ended_s) & (self.ended_s >= window.began_s)
        return found

    def percentile_ms(self, percent: float) -> float:
        """The least duration that this share of all of them did not exceed; NaN where there are none.

        Never between two: with few requests a high percentile is the slowest of them, and says so.
        """
        if not len(self):
            return float("nan")
        return float(np.percentile(self.duration_ms, percent, method="inverted_cdf"))

    def by_status(self) -> dict[str, int]:
        """How many ended with each status, most first; "none" stands for no answer."""
        found, counts = np.unique(self.status, return_counts=True)
        ordered = sorted(zip(found.tolist(), counts.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
        return {str(status) if status else "none": count for status, count in ordered}


def read_requests(path: Path) -> Requests:
    """Reads the samples that k6 writes with `--out csv`, time as unix_micro.

    Raises:
        ValueError: A sample of a request is not understood.
    """
    counts = {_DROPPED: 0.0, _UNANNOUNCED: 0.0}
    rows: list[tuple[float, float, int]] = []
    with open(path, newline="", encoding="utf-8") as file:
        for sample in csv.DictReader(file):
            name, value = sample["metric_name"], float(sample["metric_value"])
            if name == _DURATION:
                rows.append((int(sample["timestamp"]) / 1e6, value, int(sample["status"])))
            elif name in counts:
                counts[name] += value
    ended_s, duration_ms, status = np.array(sorted(rows), np.float64).reshape(-1, 3).T
    return Requests(ended_s, duration_ms, status.astype(np.int64), int(counts[_DROPPED]), int(counts[_UNANNOUNCED]))


def rate_per_s(requests: Requests, window: Window) -> float:
    """Good answers per second of a window.

    Counted from the last answer before the window to the last within it: answers come in whole batches, and a window
    that cuts through one would count it wholly or not at all.
    """
    ended_s = np.sort(requests.with_status(OK).ended_s)
    first, last = np.searchsorted(ended_s, [window.began_s, window.ended_s])
    if first == last:
        return 0.0
    began_s = ended_s[first - 1] if first else window.began_s
    return float((last - first) / (ended_s[last - 1] - began_s))
