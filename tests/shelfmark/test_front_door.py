"""`import shelfmark`: names, types, and that a program gets what the command prints."""

from __future__ import annotations

import csv
import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import shelfmark
from store.release import VERSION
from tests.support import cli
from tests.support.small_store import SmallStore, make_small_index
from tests.test_imports import ROOT


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallStore:
    return make_small_index(tmp_path_factory.mktemp("small"), items=12, views=2)


@pytest.fixture(scope="module")
def searcher(small):
    return shelfmark.open_searcher(small.uri)


def printed(*arguments: object) -> dict[str, object]:
    done = cli.shelfmark(*arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def picture_of(small: SmallStore, number: int) -> Path:
    with open(small.catalog, encoding="utf-8", newline="") as file:
        return small.catalog.parent / [*csv.DictReader(file)][number]["image_uri"]


def test_every_name_is_there_and_says_what_it_is():
    assert shelfmark.__version__ == VERSION
    assert set(dir(shelfmark)) == set(shelfmark.__all__)
    for name in set(shelfmark.__all__) - {"__version__"}:
        assert inspect.getdoc(getattr(shelfmark, name)), name
    with pytest.raises(AttributeError, match="no attribute 'embedd'"):
        shelfmark.embedd  # noqa: B018


def test_type_checkers_are_told_every_name():
    """What is loaded lazily stands twice in the module: for the interpreter and for type checkers."""
    source = (ROOT / "shelfmark" / "__init__.py").read_text(encoding="utf-8")
    for_checkers = source.split("if TYPE_CHECKING:")[1].split("\n\n")[0]
    told = {line.split(" as ")[1] for line in for_checkers.splitlines() if " as " in line}
    assert told == set(shelfmark.__all__) - {"__version__"}


@pytest.mark.parametrize(
    ("function", "request_type"),
    [
        ("embed", "EmbedRequest"),
        ("build_index", "IndexRequest"),
        ("reindex", "ReindexRequest"),
        ("evaluate", "EvaluateRequest"),
        ("prune", "PruneRequest"),
        ("list_runs", "RunsRequest"),
        ("list_rejects", "RejectsRequest"),
    ],
)
def test_a_function_takes_the_fields_of_its_request(function, request_type):
    taken = inspect.signature(getattr(shelfmark, function)).parameters
    assert taken == inspect.signature(getattr(shelfmark, request_type)).parameters
    said = str(inspect.getdoc(getattr(shelfmark, function)))
    assert f"Takes the fields of {request_type}" in said
    assert [name for name in taken if f"    {name}: " not in said] == [], "every field is explained"
    assert "request:" not in said


def test_a_mistake_is_an_error_of_the_front_door(tmp_path):
    with pytest.raises(shelfmark.UserError, match="no such file"):
        shelfmark.embed(tmp_path / "none.csv", tmp_path / "store", weights="random")
    with pytest.raises(shelfmark.UserError, match="no index is published"):
        shelfmark.open_searcher(tmp_path / "store")


def test_pictures_are_answered_as_the_command_answers(small, searcher):
    file = picture_of(small, 3)
    found = searcher.search_pictures([file], k=4, group_by="item")
    assert found.to_dict() == printed("search", "--store", small.uri, "--image", file, "-k", 4, "--group_by", "item")
    assert (len(found), found[0][0].score) == (1, pytest.approx(1, abs=5e-3))
    assert [line.split()[0] for line in str(found).splitlines()] == [str(file)] * 4


def test_a_picture_may_be_bytes_and_filters_hold(small, searcher):
    data = picture_of(small, 3).read_bytes()
    (hit,) = searcher.search_pictures([data], k=1)[0]
    where = {"category": hit.attributes["category"]}
    found = searcher.search_pictures([data, data], k=3, where=where)
    assert [query["query"] for query in found.to_dict()["queries"]] == ["picture 0", "picture 1"]
    assert {hit.attributes["category"] for hits in found.answers for hit in hits} == set(where.values())


def test_items_ids_and_vectors_can_be_asked_too(small, searcher):
    hit = searcher.search_pictures([picture_of(small, 0)], k=1)[0][0]
    for by, ask in (("item", searcher.search_item), ("image_id", searcher.search_image_id)):
        name = hit.item_id if by == "item" else hit.image_id
        assert ask(name, k=3).to_dict() == printed("search", "--store", small.uri, f"--{by}", name, "-k", 3)
    vector = searcher.searcher.vectors([hit.row])
    assert searcher.search_vectors(np.asarray(vector), k=1)[0][0].image_id == hit.image_id
    assert len(searcher) == 24
    assert searcher.search_pictures([]).to_dict()["queries"] == []


def test_a_picture_that_is_none_is_named(small, searcher, tmp_path):
    (tmp_path / "note.jpg").write_text("no picture")
    with pytest.raises(shelfmark.UserError, match=r"note\.jpg: not_an_image"):
        searcher.search_pictures([tmp_path / "note.jpg"])


def test_a_notebook_shows_pictures_and_tables(small, searcher):
    page = searcher.search_pictures([picture_of(small, 2)], k=3)._repr_html_()
    assert page.count("<img") == 4
    assert page.count("data:image/") == 4
    assert "<script" not in page
    assert "<th" in shelfmark.list_versions(small.uri)._repr_html_()


def test_quality_is_what_the_command_prints(small):
    quality = shelfmark.evaluate(small.uri, label="item_id", k=3)
    assert quality.to_dict() == printed("evaluate", "--store", small.uri, "--label", "item_id", "-k", 3)
    assert "precision@1" in str(quality)


def test_lists_are_what_the_commands_print(small):
    for function, command in (("list_versions", "versions"), ("list_runs", "runs"), ("list_rejects", "rejects")):
        assert getattr(shelfmark, function)(small.uri).to_dict() == printed(command, "--store", small.uri)


SCRIPT = """
import shelfmark

snapshot = shelfmark.embed("products.csv", "./store", backbone="resnet50")
version = shelfmark.build_index("./store", target_recall=0.95)
run = shelfmark.reindex("products.csv", "./store", max_shrink=0.1)
searcher = shelfmark.open_searcher("./store")
matches = searcher.search_pictures(["photo.jpg"], k=5, where={"category": "shoe"})
quality = shelfmark.evaluate("./store", label="category")
reveal_type(snapshot)
reveal_type(version.manifest.vectors)
reveal_type(run.record.outcome)
reveal_type(matches[0])
reveal_type(matches[0][0].score)
reveal_type(quality.quality.overall)
reveal_type(shelfmark.__version__)
"""
REVEALED = [
    "pipelines.results.Snapshot",
    "int",
    "str",
    "list[index_builder.search.rows.Hit]",
    "float",
    "index_builder.search.retrieval_quality.Quality",
    "str",
]


@pytest.mark.slow
def test_a_wheel_works_outside_the_checkout_and_has_types(tmp_path):
    """Built from the files that a checkout has, installed in an environment that knows no checkout."""
    home, python = install_wheel(tmp_path)
    script = home / "script.py"
    script.write_text(SCRIPT)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), script.name]
    done = subprocess.run(mypy, cwd=home, capture_output=True, text=True, check=False)
    notes = [line.split('"')[1] for line in done.stdout.splitlines() if "Revealed type" in line]
    assert (done.returncode, notes) == (0, REVEALED), done.stdout
    script.write_text('import shelfmark\nshelfmark.embed("c.csv", "s", backbon="resnet50")\n')
    done = subprocess.run(mypy, cwd=home, capture_output=True, text=True, check=False)
    assert 'Unexpected keyword argument "backbon"' in done.stdout
    run = subprocess.run(
        [str(python), "-c", "import shelfmark, sys; print(shelfmark.__file__); print(len(sys.modules))"],
        cwd=home, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(tmp_path) in run.stdout
    page = [
        str(python),
        "-c",
        "import serving.page; from importlib.resources import files; print(files('serving') / 'page')",
    ]
    folder = Path(subprocess.run(page, cwd=home, capture_output=True, text=True, check=True).stdout.strip())
    assert (folder / "page.js").is_file()
    done = subprocess.run(
        [str(python), "-m", "shelfmark", "doctor", "--format", "json"],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def install_wheel(folder: Path) -> tuple[Path, Path]:
    """An environment with the project's wheel and what the wheel needs; its folder to work in, and its Python."""
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    source = folder / "source"
    for name in files:
        if (ROOT / name).is_file() and not name.startswith(("tests/", "benchmarks/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "fresh")], check=True)
    python = folder / "fresh" / "bin" / "python"
    where = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip())
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    # The dependencies' folder, whose own .pth files (the checkout's among them) are not followed from here.
    (site / "dependencies.pth").write_text(f"{Path(np.__file__).parent.parent}\n")
    home = folder / "home"
    home.mkdir()
    return home, python
