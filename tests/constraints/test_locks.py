"""The locks hold what setup.py asks for, with digests: a check that needs no registry and minds no newer release."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from constraints.compile import BESIDE, PYTHONS, ROOT, requirements_of
from constraints.install import FOLDER, RUNNING, SHELFMARK, SOURCES, lock_of, pins_for

ASKED = requirements_of(ROOT / "setup.py")
EXTRAS = sorted(set(ASKED) - {SHELFMARK})
GENERATED = [*map(lock_of, PYTHONS), *(FOLDER / f"{name}.txt" for name in BESIDE)]


def versions(python: str, *extras: str) -> dict[str, str]:
    """The locked versions, by package."""
    pins = pins_for(lock_of(python).read_text(encoding="utf-8"), set(extras))
    return {name: text.split("==")[1].split()[0] for name, text in pins.items()}


def applies(requirement: Requirement, python: str, extra: str = "") -> bool:
    platform = {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux"}
    environment = {"python_version": python, "python_full_version": f"{python}.1", "extra": extra, **platform}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def closure(lines: list[str], python: str) -> dict[str, list[str]]:
    """What requirements come to, as the packages that are installed here describe themselves: specifiers by name."""
    found: dict[str, list[str]] = {}
    waiting = [(Requirement(line), "") for line in lines]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, of_extra = waiting.pop()
        if not applies(requirement, python, of_extra):
            continue
        name = canonicalize_name(requirement.name)
        found.setdefault(name, []).append(str(requirement.specifier))
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            waiting += [(Requirement(line), extra) for line in metadata.requires(name) or []]
    return found


@pytest.mark.parametrize("extra", ["", *EXTRAS])
@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_of_setup_is_locked(python: str, extra: str) -> None:
    locked = versions(python, *filter(None, [extra]))
    for line in [*ASKED[SHELFMARK], *ASKED.get(extra, [])]:
        requirement = Requirement(line)
        if applies(requirement, python):
            assert locked[canonicalize_name(requirement.name)] in requirement.specifier, f"run make constraints: {line}"


def test_lock_of_this_python_has_what_dev_comes_to_and_nothing_else() -> None:
    locked, needed = versions(RUNNING, "dev"), closure([*ASKED[SHELFMARK], *ASKED["dev"]], RUNNING)
    assert set(locked) == set(needed), "run make constraints"
    for name, specifiers in needed.items():
        assert all(locked[name] in SpecifierSet(each) for each in specifiers), (name, locked[name], specifiers)


def test_there_is_a_lock_for_every_python_that_setup_takes() -> None:
    (takes,) = re.findall(r'python_requires="(.*)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    assert [f"3.{minor}" for minor in range(8, 20) if f"3.{minor}.0" in SpecifierSet(takes)] == list(PYTHONS)
    assert sorted(FOLDER.glob("py*.txt")) == sorted(map(lock_of, PYTHONS))


@pytest.mark.parametrize("lock", GENERATED, ids=lambda path: path.name)
def test_every_version_has_digests_and_nothing_says_where_it_was_made(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    blocks = re.findall(r"^[a-z0-9].*\n(?: .*\n)*", text, re.MULTILINE)
    assert len(blocks) > 30
    for block in blocks:
        assert re.match(r"[a-z0-9][a-z0-9.-]*==\S+( ; .*)? \\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n)+", block), block
    assert "://" not in text
    assert not re.search(r"(^|\s)/", text)


def test_what_is_built_here_is_built_by_what_is_locked() -> None:
    locked = versions(RUNNING, *EXTRAS)
    assert set(locked) >= {"setuptools", "wheel", "pybind11", *SOURCES}
