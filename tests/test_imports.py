"""The layering rule: who may import whom, and what costs nothing to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Each package, and those of ours that it may import. Only `pipelines` may import `serving`; none, `pipelines`.
MAY_IMPORT: dict[str, set[str]] = {
    "store": set(),
    "fetch": {"store"},
    "encoder": {"store"},
    "index_builder": {"store"},
    "transforms": {"store", "fetch", "encoder"},
    "samples": {"store"},
    "serving": {"store", "fetch", "encoder", "index_builder"},
    "pipelines": {"store", "fetch", "encoder", "index_builder", "transforms", "samples", "serving"},
    "benchmarks": {"store", "fetch", "encoder", "index_builder", "transforms", "samples", "pipelines", "tests"},
    "shelfmark": {"store", "index_builder", "pipelines"},
    "deploy": set(),
    "constraints": set(),
}
OURS = {*MAY_IMPORT, "tests"}
TENSORFLOW = {"tensorflow", "tensorflow_io", "keras"}
MUST_NOT_IMPORT = {
    "store": {"apache_beam", *TENSORFLOW},
    "fetch": TENSORFLOW,
    "index_builder": {"apache_beam", *TENSORFLOW},
    "encoder": {"apache_beam"},
    "serving": {"apache_beam"},
    "samples": {"apache_beam", *TENSORFLOW},
}
MODULES = sorted(path.relative_to(ROOT) for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imported_packages(source: str) -> set[str]:
    """The top-level packages that a module imports anywhere in its text, relative imports left out."""
    packages: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            packages.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            packages.add(node.module.split(".")[0])
    return packages


def test_imported_packages_sees_every_form() -> None:
    source = "import a.b, c as d\nfrom e.f import g\nfrom . import h\ndef f():\n    if True:\n        import i\n"
    assert imported_packages(source) == {"a", "c", "e", "i"}


def test_modules_of_every_existing_package_are_found() -> None:
    assert {"store", "fetch", "encoder", "transforms", "pipelines"} <= {module.parts[0] for module in MODULES}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_module_imports_only_what_its_layer_may(module: Path) -> None:
    package = module.parts[0]
    imported = imported_packages((ROOT / module).read_text(encoding="utf-8"))
    allowed = MAY_IMPORT[package] | {package}
    assert not (imported & OURS) - allowed
    assert not imported & MUST_NOT_IMPORT.get(package, set())


# Each room of index_builder, and the others that it may import.
ROOMS: dict[str, set[str]] = {"search": set(), "pages": {"search"}, "build": {"search", "pages"}}


def imported_rooms(source: str) -> set[tuple[str, bool]]:
    """The rooms of index_builder that a module imports from, and whether past their faces."""
    names = {
        tuple((node.module or "").split("."))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("index_builder.")
    }
    return {(parts[1], len(parts) > 2) for parts in names}


@pytest.mark.parametrize("module", [path for path in MODULES if path.parts[0] == "index_builder"], ids=str)
def test_rooms_of_index_builder_import_only_those_below(module: Path) -> None:
    room = module.parts[1]
    imported = {name for name, _ in imported_rooms((ROOT / module).read_text(encoding="utf-8"))}
    assert imported <= ROOMS.get(room, set()) | {room}


@pytest.mark.parametrize("module", [path for path in MODULES if path.parts[0] in ("pipelines", "serving")], ids=str)
def test_others_enter_index_builder_by_the_faces_of_its_rooms(module: Path) -> None:
    assert not [room for room, past in imported_rooms((ROOT / module).read_text(encoding="utf-8")) if past]


@pytest.mark.parametrize("module", [path for path in MODULES if path.parts[0] != "benchmarks"], ids=str)
def test_flags_end_in_the_command_line(module: Path) -> None:
    if module.parts[:2] != ("pipelines", "cli") and module.parts[0] != "constraints":
        assert "argparse" not in imported_packages((ROOT / module).read_text(encoding="utf-8"))


def test_store_needs_only_numpy_and_pyarrow() -> None:
    imported: set[str] = set()
    for module in MODULES:
        if module.parts[0] == "store":
            imported |= imported_packages((ROOT / module).read_text(encoding="utf-8"))
    assert imported - sys.stdlib_module_names <= {"store", "numpy", "pyarrow"}


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        ("store, encoder, encoder.spec, encoder.decode", {"tensorflow"}),
        ("store, fetch.fetcher, fetch.public_fetcher, fetch.row_pictures, fetch.trust", {"tensorflow", "apache_beam"}),
        ("fetch.file_systems, serving.options", {"tensorflow", "apache_beam", "numpy"}),
        ("shelfmark", {"tensorflow", "apache_beam", "numpy", "pyarrow"}),
        ("pipelines.cli.main", {"tensorflow", "apache_beam", "numpy", "pyarrow"}),
        ("store.conditional, store.lease, store.location", {"boto3", "botocore", "google.cloud.storage"}),
    ],
)
def test_light_modules_import_nothing_heavy(modules: str, forbidden: set[str]) -> None:
    code = f"import sys, {modules}; print(*sorted({forbidden!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
