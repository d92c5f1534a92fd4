"""Beam's file systems outside a pipeline: opened when a picture in a bucket is first asked for, as a pipeline says."""

from __future__ import annotations

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.options.value_provider import RuntimeValueProvider

from fetch import fetcher as module
from fetch.fetcher import FetchOptions, ImageFetcher
from fetch.file_systems import open_file_systems
from fetch.policy import ON_REQUEST
from store.rejects import Rejected


@pytest.fixture(autouse=True)
def nothing_holds(monkeypatch):
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    monkeypatch.setattr(RuntimeValueProvider, "runtime_options", None)


def test_a_pipelines_options_hold_and_are_not_undone():
    ours = PipelineOptions(["--s3_region_name=here"])
    open_file_systems()
    assert FileSystems._pipeline_options is not None
    open_file_systems(ours)
    open_file_systems()
    assert FileSystems._pipeline_options is ours


def test_a_workers_options_hold(monkeypatch):
    monkeypatch.setattr(RuntimeValueProvider, "runtime_options", {"s3_region_name": "here"})
    open_file_systems()
    assert FileSystems._pipeline_options is None


def test_a_fetcher_opens_them_for_the_first_picture_in_a_bucket(monkeypatch, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"picture")
    monkeypatch.setattr(module, "_missing_package", lambda scheme: "")
    fetcher = ImageFetcher(FetchOptions(attempts=1), ON_REQUEST)
    assert fetcher.fetch(str(tmp_path / "a.jpg")) == b"picture"
    assert FileSystems._pipeline_options is None
    with pytest.raises(Rejected, match="unsupported_scheme"):
        fetcher.fetch("nowhere://bucket/a.jpg")
    assert FileSystems._pipeline_options is not None
