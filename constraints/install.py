"""Installs every package that Shelfmark needs, each compared with its digest, and nothing else.

    python constraints/install.py dev,bench                        # into the environment of that python
    pip install --no-deps --no-build-isolation -e .                # then Shelfmark itself

It takes the file of its own Python out of this folder. Needs nothing but pip, and Linux on x86-64, which is what the
files were resolved for.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SHELFMARK = "shelfmark"
# Their registry has no wheel of them: they are built here, by the setuptools of the lock and not by today's.
SOURCES = frozenset({"google-apitools", "hnswlib"})
PLATFORM = ("Linux", "x86_64")
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"

_PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9.-]*)==\S+ \\\n(?: .*\n)*? +# for (?P<wanted_by>.*)\n", re.MULTILINE)


def lock_of(python: str) -> Path:
    """The file of a Python, such as 3.11."""
    return FOLDER / f"py{python.replace('.', '')}.txt"


def pins_for(lock: str, extras: set[str]) -> dict[str, str]:
    """The requirements, by package, that Shelfmark with some extras needs of a lock.

    Args:
        lock: The text of a lock.
        extras: Names of extras of setup.py.

    Returns:
        Requirements as pip reads them, version and digests, in the lock's order.

    Raises:
        ValueError: The lock knows nothing of an extra.
    """
    found = [(pin["name"], pin[0], set(pin["wanted_by"].split(", "))) for pin in _PIN.finditer(lock)]
    known = {extra for _, _, wanted_by in found for extra in wanted_by} - {SHELFMARK}
    if extras - known:
        unknown = ", ".join(sorted(extras - known))
        raise ValueError(f"expected extras out of {', '.join(sorted(known))}, found {unknown}")
    return {name: text for name, text, wanted_by in found if wanted_by & {SHELFMARK, *extras}}


def install(pins: dict[str, str]) -> None:
    """Installs wheels, and then what there is only as source.

    Args:
        pins: Requirements, by package.

    Raises:
        subprocess.CalledProcessError: pip failed; it has said why.
    """
    wheels = [text for name, text in pins.items() if name not in SOURCES]
    sources = [text for name, text in pins.items() if name in SOURCES]
    _pip_install(wheels, "--only-binary", ":all:")
    if sources:
        _pip_install(sources, "--no-build-isolation")


def main(argv: list[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments, without the program's name.

    Returns:
        The exit code: 2 where the lock is for another Python, another platform or other extras, 1 where pip failed.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="?", default="", help="extras of setup.py, with commas between")
    parser.add_argument("--show", action="store_true", help="print the requirements and install nothing")
    parser.add_argument("--python", default=RUNNING, help="with --show: of which Python")
    args = parser.parse_args(argv)
    lock = lock_of(args.python)
    if not lock.is_file():
        print(f"expected a Python that {FOLDER.name}/ has a file for, found {args.python}", file=sys.stderr)
        return 2
    try:
        pins = pins_for(lock.read_text(encoding="utf-8"), {extra for extra in args.extras.split(",") if extra})
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if args.show:
        print("".join(pins.values()), end="")
        return 0
    found = (platform.system(), platform.machine())
    if found != PLATFORM:
        print(_elsewhere(found, lock), file=sys.stderr)
        return 2
    try:
        install(pins)
    except subprocess.CalledProcessError:
        return 1
    return 0


def _pip_install(requirements: list[str], *options: str) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
        file.write("".join(requirements))
        file.flush()
        # The lock is complete; and pip 23 would want another google-api-core for somebody's `google-api-core[grpc]`.
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes", *options]
        subprocess.run([*command, "-r", file.name], check=True)


def _elsewhere(found: tuple[str, str], lock: Path) -> str:
    versions = f"grep -o '^[^ ]*==[^ ]*' {FOLDER.name}/{lock.name} >versions.txt"
    return (
        f"the lock is for {' on '.join(PLATFORM)}, found {' on '.join(found)}; the same versions, unchecked: "
        f"{versions} && pip install -c versions.txt -e '.[dev]'"
    )


if __name__ == "__main__":
    sys.exit(main())
