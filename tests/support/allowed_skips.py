"""A pytest plugin, `-p tests.support.allowed_skips`: a test that is skipped for a reason not listed here fails the run.

.ci/run brings what tests need, so that a skip there is a promise not kept. What it cannot bring is listed.
"""

from __future__ import annotations

import sys
from collections import Counter

import pytest

ALLOWED = {
    "needs the right to mount a small file system",
    "needs gcloud, which is not on PATH",  # Google's own, in no package registry
    "draws fresh examples where SHELFMARK_PROPERTY_SECONDS says for how long",  # .ci/run has it in a run of its own
}
if sys.version_info < (3, 11):
    ALLOWED |= {
        "needs schemathesis, which wants Python 3.11",
        "needs an interpreter with Airflow: SHELFMARK_AIRFLOW_PYTHON is not set",
    }


class SkipsThatFail:
    """Counts skipped tests by reason, where reports of all workers come together."""

    def __init__(self) -> None:
        self.unexpected: Counter[str] = Counter()

    def _add(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if reason not in ALLOWED:
            self.unexpected[reason] += 1

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._add(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._add(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for reason, count in sorted(self.unexpected.items()):
            terminalreporter.write_line(f"{count} skipped, which is not allowed here: {reason}", red=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexpected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # a worker's reports come to where the session is
        config.pluginmanager.register(SkipsThatFail())
