"""The examples run as they are."""

from __future__ import annotations

import json
import runpy
import sys
from typing import Any

import pytest

from tests.test_imports import ROOT

pytestmark = pytest.mark.slow


def test_the_script_runs_to_its_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["search_products.py", str(tmp_path / "example")])
    runpy.run_path(str(ROOT / "examples" / "search_products.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "recall@5 1.000 of " in said
    assert "1.000  " in said, "a picture of the catalog finds itself"
    assert said.splitlines()[-1].startswith("published")


def test_every_cell_of_the_notebook_runs_and_shows_what_it_ends_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "examples" / "shelfmark.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    shown = []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == []
        *lines, last = "".join(cell["source"]).splitlines()
        exec("\n".join(lines), names)
        if last.isidentifier() or last.startswith("shelfmark."):
            shown.append(eval(last, names)._repr_html_())
        else:
            exec(last, names)
    table, index, matches, quality = shown
    assert ">24</td>" in table
    assert "recall@5" in index
    assert matches.count("data:image/") == 6
    assert "precision@1" in quality
