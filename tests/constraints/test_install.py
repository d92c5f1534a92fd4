"""Installing from a lock: the right part of it, compared with its digests by pip itself."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from constraints import install

DIGEST = "0" * 64
LOCK = f"""\
# A lock.
base==1.0 \\
    --hash=sha256:{DIGEST} \\
    --hash=sha256:{DIGEST}
    # for shelfmark
cloud==2.0 \\
    --hash=sha256:{DIGEST}
    # for aws, dev
hnswlib==3.0 \\
    --hash=sha256:{DIGEST}
    # for bench
"""


@pytest.mark.parametrize(
    ("extras", "names"),
    [(set(), ["base"]), ({"aws"}, ["base", "cloud"]), ({"bench", "dev"}, ["base", "cloud", "hnswlib"])],
)
def test_an_extra_gets_its_packages_and_those_of_every_install(extras: set[str], names: list[str]) -> None:
    assert list(install.pins_for(LOCK, extras)) == names


def test_an_extra_that_is_not_locked_is_refused() -> None:
    with pytest.raises(ValueError, match="expected extras out of aws, bench, dev, found azur"):
        install.pins_for(LOCK, {"azur", "aws"})


def test_wheels_come_first_and_what_comes_as_source_is_built_by_them(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[str], str]] = []

    def run(command: list[str], *, check: bool) -> None:
        assert check
        calls.append((command, Path(command[-1]).read_text(encoding="utf-8")))

    monkeypatch.setattr(subprocess, "run", run)
    install.install(install.pins_for(LOCK, {"bench"}))
    (wheels, wheel_pins), (sources, source_pins) = calls
    for command in (wheels, sources):
        assert command[:4] == [sys.executable, "-m", "pip", "install"]
        assert {"--require-hashes", "--no-deps"} <= set(command)
    assert "--only-binary" in wheels
    assert "--no-build-isolation" in sources
    assert ("base==1.0" in wheel_pins, "hnswlib" in wheel_pins) == (True, False)
    assert ("base" in source_pins, "hnswlib==3.0" in source_pins) == (False, True)


def write_wheel(folder: Path) -> str:
    """A wheel of an empty package; its digest."""
    path = folder / "tiny_shelf-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny_shelf.py", "")
        about = "tiny_shelf-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-shelf\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", f"tiny_shelf.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("tampered", [False, True])
def test_pip_takes_only_the_file_that_was_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tampered: bool
) -> None:
    digest = write_wheel(tmp_path)
    lock = f"tiny-shelf==1.0 \\\n    --hash=sha256:{DIGEST if tampered else digest}\n    # for shelfmark\n"
    target = tmp_path / "target"
    variables = {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path), "TARGET": str(target), "CACHE_DIR": str(tmp_path / "c")}
    for name, value in variables.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    (tmp_path / "py399.txt").write_text(lock, encoding="utf-8")
    monkeypatch.setattr(install, "FOLDER", tmp_path)
    monkeypatch.setattr(install, "PLATFORM", (platform.system(), platform.machine()))
    assert install.main(["--python", "3.99"]) == (1 if tampered else 0)
    assert (target / "tiny_shelf.py").exists() is not tampered
    assert ("DO NOT MATCH THE HASHES" in capfd.readouterr().err) is tampered


def test_another_platform_is_told_how_to_get_the_same_versions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "PLATFORM", ("Linux", "riscv64"))
    assert install.main(["dev", "--python", "3.11"]) == 2
    said = capsys.readouterr().err
    assert "the lock is for Linux on riscv64, found" in said
    (command,) = [part for part in said.split("unchecked: ")[1].split(" && ") if part.startswith("grep")]
    pins = subprocess.run(
        ["bash", "-c", command.replace(">versions.txt", "")],
        cwd=install.FOLDER.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    text = install.lock_of("3.11").read_text(encoding="utf-8")
    assert len(pins) == text.count("    # for ")
    assert "tensorflow==2.17.1" in pins


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--python", "3.9"], "found 3.9"), (["nothing", "--python", "3.11"], "found nothing")]
)
def test_a_mistake_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert install.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_show_prints_what_would_be_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert install.main(["aws", "--show", "--python", "3.12"]) == 0
    text = install.lock_of("3.12").read_text(encoding="utf-8")
    assert capsys.readouterr().out == "".join(install.pins_for(text, {"aws"}).values())
