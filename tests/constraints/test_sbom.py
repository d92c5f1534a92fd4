"""`make sbom`: the bill of materials names the pinned set, with digests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from constraints.install import lock_of, pins_for

ROOT = Path(__file__).resolve().parent.parent.parent


def make_sbom(path: Path, extras: str) -> bytes:
    tools = Path(os.environ.get("SHELFMARK_TOOLS") or Path(sys.prefix) / "tools")
    if not (tools / "installed").exists():
        pytest.skip(f"needs the tools of constraints/tools.in: make {tools}/installed")
    command = ["make", "--no-print-directory", "sbom", f"SBOM={path}", f"EXTRAS={extras}", f"TOOLS={tools}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path.read_bytes()


def test_bill_names_every_package_of_the_image_with_its_digests(tmp_path: Path) -> None:
    bill = json.loads(make_sbom(tmp_path / "bill.json", "aws,gcp"))
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "shelfmark")
    pins = pins_for(lock_of("3.11").read_text(encoding="utf-8"), {"aws", "gcp"})
    found = {component["name"]: component for component in bill["components"]}
    assert set(found) == set(pins)
    for name, text in pins.items():
        version = text.split("==")[1].split()[0]
        assert (found[name]["version"], found[name]["purl"]) == (version, f"pkg:pypi/{name}@{version}")
        (file,) = found[name]["externalReferences"]
        digests = {entry["content"] for entry in file["hashes"] if entry["alg"] == "SHA-256"}
        assert digests == set(re.findall(r"sha256:([0-9a-f]{64})", text))


def test_the_same_lock_gives_the_same_bill(tmp_path: Path) -> None:
    assert make_sbom(tmp_path / "one.json", "aws") == make_sbom(tmp_path / "two.json", "aws")
