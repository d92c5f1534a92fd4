"""The units: systemd takes them, and they treat exit codes as the command line means them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving.options import ServeOptions

UNITS = Path(__file__).resolve().parent.parent.parent / "deploy" / "systemd"


def settings(name: str) -> dict[str, list[str]]:
    """Every setting of a unit and the values it was given, in order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def analyze(*arguments: str) -> str:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (Debian's package systemd)")
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr + done.stdout


def installed(folder: Path, *, misspelt: str = "") -> list[str]:
    """The units as they lie on a machine, with a program that is there in place of shelfmark's."""
    paths = []
    for name in ("shelfmark-reindex.service", "shelfmark-reindex.timer", "shelfmark-serve.service"):
        text = (UNITS / name).read_text(encoding="utf-8").replace("/opt/shelfmark/bin/shelfmark", sys.executable)
        if misspelt:
            text = text.replace(f"{misspelt}=", f"{misspelt}x=")
        path = folder / name
        path.write_text(text, encoding="utf-8")
        paths.append(str(path))
    return paths


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    assert analyze("verify", "--man=no", *installed(tmp_path)) == ""


def test_systemd_names_a_setting_that_it_does_not_know(tmp_path: Path) -> None:
    assert "Persistentx" in analyze("verify", "--man=no", *installed(tmp_path, misspelt="Persistent"))


def test_codes_2_and_3_are_final_and_1_is_not() -> None:
    service = settings("shelfmark-reindex.service")
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == ["2 3 130"]  # 130: the deadline, or a person, stopped it
    assert "SuccessExitStatus" not in service
    assert "--wait" in service["ExecStart"][0]


def test_run_is_not_cut_short_at_the_default_of_90_seconds() -> None:
    assert settings("shelfmark-reindex.service")["TimeoutStartSec"] == ["12h"]


def test_store_of_the_example_lies_where_the_unit_may_write() -> None:
    service, example = settings("shelfmark-reindex.service"), settings("reindex.env.example")
    folder = f"/var/lib/{service['StateDirectory'][0]}"
    assert service["ProtectSystem"] == ["strict"]
    assert example["SHELFMARK_STORE"][0].startswith(f"{folder}/")
    assert all(word.startswith(f"{folder}/") for word in example["SHELFMARK_FLAGS"][0].split() if word.startswith("/"))


@pytest.mark.parametrize("name", ["reindex", "serve"])
def test_unit_reads_every_variable_from_a_file_that_sets_it(name: str) -> None:
    service, example = settings(f"shelfmark-{name}.service"), settings(f"{name}.env.example")
    assert service["EnvironmentFile"] == [f"/etc/shelfmark/{name}.env"]
    used = {word.strip("${}") for word in service["ExecStart"][0].split() if word.startswith("$")}
    assert used == set(example)


@pytest.mark.parametrize("name", ["reindex", "serve"])
def test_user_of_the_service_is_the_one_that_is_made(name: str) -> None:
    lines = (UNITS / "shelfmark.sysusers.conf").read_text(encoding="utf-8").splitlines()
    (user,) = [line.split()[1] for line in lines if line.startswith("u")]
    assert settings(f"shelfmark-{name}.service")["User"] == [user]


def test_server_is_started_again_but_not_after_a_mistake() -> None:
    service = settings("shelfmark-serve.service")
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == ["2"]
    assert "SuccessExitStatus" not in service


def test_server_has_time_to_finish_when_it_is_stopped() -> None:
    (stop,) = settings("shelfmark-serve.service")["TimeoutStopSec"]
    assert int(stop.removesuffix("s")) > ServeOptions(store_uri="s").grace_s


def test_server_is_confined_as_the_nightly_run_is_and_writes_no_store() -> None:
    run, server = settings("shelfmark-reindex.service"), settings("shelfmark-serve.service")
    confining = {
        key for key in run if key.startswith(("Protect", "Private", "Restrict", "SystemCall", "NoNew", "Capability"))
    } - {"RestartPreventExitStatus"}
    assert len(confining) >= 15
    assert {key: server[key] for key in confining} == {key: run[key] for key in confining}
    assert not {"StateDirectory", "ReadWritePaths"} & set(server)


def test_server_reads_the_store_that_the_nightly_run_writes() -> None:
    assert settings("serve.env.example")["SHELFMARK_STORE"] == settings("reindex.env.example")["SHELFMARK_STORE"]
