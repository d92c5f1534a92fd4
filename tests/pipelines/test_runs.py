from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from pipelines.cli.main import run_command
from store.errors import UserError
from store.location import Store
from store.measured import Cost
from store.process import this_host
from store.runs import write_run
from tests.store.test_runs import PUBLISHED, STARTED, of_day
from tests.support.versions import name_of


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


@pytest.fixture(scope="module")
def ended_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def run(*arguments: str) -> int:
    return run_command(["runs", *arguments])


def outcomes(store, capsys) -> list[str]:
    run("--store", store.uri, "--format", "json")
    return [one["outcome"] for one in json.loads(capsys.readouterr().out)["runs"]]


def test_a_line_for_each_run(store, capsys):
    write_run(store, dataclasses.replace(PUBLISHED, run=name_of(1), cost=Cost(None, 1234.5, 2.0)))
    write_run(
        store, of_day(2, outcome="refused", message="overlap 0.31\nis under 0.5", recall=None, cost=Cost(), counts={})
    )
    write_run(store, PUBLISHED)
    assert run("--store", store.uri) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    columns = ["run", "outcome", "rows", "embedded", "reused", "rejected", "recall", "published version", "seconds"]
    assert [head.index(column) for column in columns] == sorted(head.index(column) for column in columns)
    assert head.endswith("cost per million")
    numbers = ["10,000", "100", "9,880", "20", "0.9712", name_of(5), "90.5"]
    assert lines[0].split() == [name_of(1), "published", *numbers, "1,234.50"]
    assert lines[1].split() == [name_of(2), "refused", *"--------"]
    assert lines[2].split() == [name_of(5), "published", *numbers, "1.25", "machine", "hours"]
    assert lines[3:] == [f"{name_of(2)} refused: overlap 0.31 is under 0.5"], "those that ended well need no more words"


def test_what_each_run_that_ended_badly_has_to_say_stands_below_in_one_line(store, capsys):
    write_run(store, of_day(2, outcome="refused", message="overlap 0.31\nis under 0.5"))
    write_run(store, of_day(3, outcome="failed", message="no room"))
    run("--store", store.uri)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"{name_of(2)} refused: overlap 0.31 is under 0.5",
        f"{name_of(3)} failed: no room",
    ]


def test_a_version_that_was_not_published_is_not_shown_as_such(store, capsys):
    write_run(store, of_day(2, outcome="refused", version=name_of(7)))
    run("--store", store.uri)
    assert name_of(7) not in capsys.readouterr().out


def test_json_is_the_records_newest_last(store, capsys):
    for day in (1, 2, 3):
        write_run(store, of_day(day))
    assert run("--store", store.uri, "--format", "json", "--last", "2") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"runs": [json.loads(of_day(day).to_json()) for day in (2, 3)]}


def test_no_runs_yet(store, capsys):
    assert run("--store", store.uri) == 0
    assert capsys.readouterr().out == f"no runs in {store.uri}; make one with shelfmark reindex --store {store.uri}\n"
    run("--store", store.uri, "--format", "json")
    assert json.loads(capsys.readouterr().out) == {"runs": []}


def test_a_run_whose_process_is_gone_died(store, capsys, ended_pid):
    write_run(store, dataclasses.replace(STARTED, host=this_host(), pid=ended_pid))
    assert outcomes(store, capsys) == ["died"]
    write_run(store, dataclasses.replace(STARTED, host=this_host(), pid=os.getpid()))
    assert outcomes(store, capsys) == ["running"]
    write_run(store, dataclasses.replace(STARTED, host="another machine", pid=ended_pid))
    assert outcomes(store, capsys) == ["running"]
    write_run(store, dataclasses.replace(PUBLISHED, run=STARTED.run, host=this_host(), pid=ended_pid))
    assert outcomes(store, capsys) == ["published"]


def test_how_many_is_a_whole_number_from_one(store):
    with pytest.raises(UserError, match="a whole number from 1"):
        run("--store", store.uri, "--last", "0")
