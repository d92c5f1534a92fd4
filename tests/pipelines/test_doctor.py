"""The doctor: what its probe's output means, what it prints, and one true look at this machine."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import doctor
from pipelines.doctor import PACKAGES, DoctorReport, PackageCheck, Processor, Room

REPORT = DoctorReport(
    python="3.11.7 at /usr/bin/python3",
    system="Linux 6.1 x86_64",
    packages=(PackageCheck("numpy", "1.26.4", 0.1, ""), PackageCheck("tensorflow", "2.17.1", 3.2, "")),
    processor=Processor("Zen 4", 2, ("avx2", "avx512_bf16")),
    gpus=(),
    precision="bfloat16",
    devices_error="",
    weights_folder="/home/ada/.keras/models",
    weights=(),
    disks=(Room("/home/ada", 5 << 30, 10 << 30),),
    memory=Room("memory", 3 << 30, 4 << 30),
)


@pytest.fixture(scope="module")
def report() -> DoctorReport:
    return doctor.examine()


def test_read_probe_takes_marked_lines_out_of_noise() -> None:
    output = "\n".join(
        [
            "WARNING: noise",
            'shelfmark-probe {"module": "numpy", "load_s": 0.12}',
            '{"module": "pyarrow", "load_s": 9.0}',
            'shelfmark-probe {"module": "tensorflow_io", "error": "NotImplementedError: undefined symbol"}',
            'shelfmark-probe {"gpus": ["NVIDIA T4"], "precision": "float16"}',
        ]
    )
    found = doctor.read_probe(output, "status -11")
    by_name = {check.name: check for check in found.packages}
    assert tuple(by_name) == tuple(PACKAGES)
    assert by_name["numpy"].load_s == 0.12
    assert by_name["tensorflow-io"].error == "NotImplementedError: undefined symbol"
    assert by_name["pyarrow"] == PackageCheck("pyarrow", by_name["pyarrow"].version, None, "status -11")
    assert found.gpus == ("NVIDIA T4",)
    assert found.precision == "float16"


def test_read_probe_of_a_process_that_died_blames_every_package() -> None:
    found = doctor.read_probe("", "status -6")
    assert {check.error for check in found.packages} == {"status -6"}
    assert (found.gpus, found.precision, found.devices_error) == ((), None, "status -6")


def test_probe_tells_of_a_package_that_does_not_load(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", {"json": "json", "absent": "a_module_that_is_not_there"})
    doctor.probe()
    checks = doctor.read_probe(capsys.readouterr().out, "ended").packages
    assert checks[0].load_s is not None
    assert checks[1].load_s is None
    assert checks[1].error == "ModuleNotFoundError: No module named 'a_module_that_is_not_there'"


def test_a_package_that_does_not_load_makes_the_report_unhealthy() -> None:
    broken = PackageCheck("scann", None, None, "ImportError: undefined symbol")
    unhealthy = dataclasses.replace(REPORT, packages=(*REPORT.packages, broken))
    assert REPORT.healthy
    assert not unhealthy.healthy
    text = doctor.render(unhealthy)
    assert "scann       not installed, does not load: ImportError: undefined symbol" in text
    assert "scann did not load" in text.splitlines()[-1]


def test_render_puts_every_value_in_one_column() -> None:
    lines = doctor.render(REPORT).splitlines()
    assert lines[0] == "Python      3.11.7 at /usr/bin/python3"
    assert "features    avx2 avx512_bf16" in lines
    assert "GPU         none" in lines
    assert "disk        5.0 of 10.0 GiB free in /home/ada" in lines
    assert {line[10:12] for line in lines} == {"  "}


def test_examine_finds_the_pinned_set_loading_together(report: DoctorReport) -> None:
    assert report.healthy, doctor.render(report)
    assert report.precision in {"float32", "bfloat16", "float16"}
    assert {check.name: check.version for check in report.packages}["tensorflow"] == "2.17.1"
    assert all(room.total_bytes >= room.free_bytes > 0 for room in report.disks)


def test_examine_is_plain_json(report: DoctorReport) -> None:
    document = json.loads(json.dumps(report.to_dict()))
    assert document["healthy"] is True
    assert [package["name"] for package in document["packages"]] == list(PACKAGES)


def test_weights_are_looked_for_in_keras_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    folder = tmp_path / "models"
    assert doctor.find_weights() == (str(folder), ())
    folder.mkdir()
    for name in ("resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", "vgg16_weights.h5"):
        (folder / name).touch()
    assert doctor.find_weights() == (str(folder), ("resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",))


def test_examine_survives_a_numpy_that_does_not_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('built for another Python')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code = "import json; from pipelines.doctor import examine; print(json.dumps(examine().to_dict()))"
    root = Path(doctor.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["healthy"] is False
    assert document["packages"][0]["error"] == "ImportError: built for another Python"
    assert document["precision"] is None
