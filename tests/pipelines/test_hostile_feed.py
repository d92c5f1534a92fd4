"""A feed that one need not trust: whatever command meets it, nothing that the policy forbids is read."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import encoder.source
from encoder.spec import EncoderSpec
from fetch.policy import policy_for
from fetch.trust import Trust
from index_builder.search.searcher import Searcher
from pipelines import labelled_queries
from pipelines.cli.main import main
from pipelines.reindex_plan import _fate_of
from serving.options import ServeOptions
from serving.sources import PictureSources
from store.location import Store
from store.publication import read_current
from store.rejects import Reason, Rejected
from store.snapshot import list_snapshots, read_manifest
from tests.support.fakes import FakeEncoderSource
from tests.support.hostile_feed import HostileFeed, hostile_feed
from tests.support.http_server import jpeg
from tests.support.serving import Client, running
from tests.support.small_embed import embed_again, rows_of, write_catalog
from tests.support.small_reindex import REQUEST, reindex
from transforms.previous import PreviousRow
from transforms.rows import CatalogRow
from transforms.tasks import Task

NONE = Trust("none")
HARMLESS = ["plain-0", "plain-1"]


@pytest.fixture(scope="module")
def shared_feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileFeed]:
    with pytest.MonkeyPatch.context() as patch, hostile_feed(tmp_path_factory.mktemp("feed"), patch) as made:
        yield made


@pytest.fixture
def feed(shared_feed: HostileFeed) -> HostileFeed:
    """As if nobody had asked yet."""
    shared_feed.forget()
    return shared_feed


def write_feed(feed: HostileFeed, uris: list[str], good: dict[str, str], name: str = "catalog.csv") -> Path:
    rows = [{"image_id": f"bad-{number}", "image_uri": uri} for number, uri in enumerate(uris)]
    rows += [{"image_id": name, "image_uri": uri} for name, uri in good.items()]
    for row in rows:
        row.update(source_version="v1", category="good" if row["image_id"] in good else "bad")
    return write_catalog(feed.folder / name, rows)


def assert_refused(feed: HostileFeed, store: Path, manifest: Any, uris: list[str], good: dict[str, str]) -> None:
    rejected = rows_of(store, manifest, "rejected-")
    wrong = {
        uri: (rejected.get(f"bad-{number}") or {"reason": "embedded", "detail": ""})
        for number, uri in enumerate(uris)
        if rejected.get(f"bad-{number}", {}).get("reason") != Reason.NOT_ALLOWED.value
    }
    assert not {uri: (row["reason"], row["detail"]) for uri, row in wrong.items()}
    for row in rejected.values():
        assert any(said in row["detail"] for said in ("--allow_local", "--allow_hosts")), row["detail"]
    assert rows_of(store, manifest).keys() == good.keys()
    assert not feed.canary.requests
    assert not feed.opened()


def test_embed_reads_nothing_that_a_local_table_without_trust_may_not_name(feed, tmp_path):
    uris = [*feed.paths(), *feed.relative_paths(), *feed.buckets()]
    uris += [*feed.loopback_urls(), *feed.other_urls(), *feed.redirects()]
    assert len(set(uris)) >= 100
    good = {"fine": "fine.jpg", "fine-twice": str(feed.folder / "fine.jpg"), **feed.good}
    table = write_feed(feed, uris, good)
    manifest = embed_again(table, tmp_path / "store", trust=NONE)
    assert_refused(feed, tmp_path / "store", manifest, uris, good)


def test_embed_reads_nothing_that_a_table_from_elsewhere_may_not_name(feed, tmp_path):
    uris = [*feed.paths(), *feed.buckets(), *feed.loopback_urls(), *feed.other_urls(), *feed.redirects()]
    uris += [str(feed.folder / "fine.jpg"), f"//127.0.0.1:{feed.canary.port}/ok/1.jpg"]
    # What lies beside an http table is a path of its host, whatever it looks like.
    uris = [uri for uri in uris if "://" in uri or uri.startswith(f"//127.0.0.1:{feed.canary.port}")]
    good = {**feed.good, "beside": "ok/9.jpg"}
    table = write_feed(feed, uris, good)
    base = f"http://public.test:{feed.public.port}"
    manifest = embed_again(table, tmp_path / "store", base=base)
    assert_refused(feed, tmp_path / "store", manifest, uris, good)
    # One from a bucket names its own objects, and public hosts; no path is of its own machine.
    uris = [*feed.paths(), *feed.loopback_urls(), *feed.redirects()]
    table = write_feed(feed, uris, feed.good)
    manifest = embed_again(table, tmp_path / "second", base="gs://shop/feed")
    assert_refused(feed, tmp_path / "second", manifest, uris, feed.good)


def test_flags_open_what_they_name_and_nothing_else(feed, tmp_path):
    port = feed.canary.port
    rows = {
        "secret": str(feed.secret),
        "other": f"{feed.folder}-of-others/secret.jpg",
        "loopback": f"http://127.0.0.1:{port}/ok/1.jpg",
        "name": f"http://loopback.test:{port}/ok/2.jpg",
        "hop": feed.redirect(302, f"http://127.0.0.1:{port}/ok/3.jpg"),
        "cloud": "http://169.254.169.254/ok/1.jpg",
    }
    table = write_feed(feed, [], rows)
    hosts = (f"127.0.0.1:{port}", "169.254.169.254")
    trust = Trust("none", allow_local=(str(feed.secret.parent),), allow_hosts=hosts)
    manifest = embed_again(table, tmp_path / "store", trust=trust)
    rejected = rows_of(tmp_path / "store", manifest, "rejected-")
    assert rejected.keys() == {"other", "name", "cloud"}
    assert {row["reason"] for row in rejected.values()} == {"not_allowed"}
    assert "never" in rejected["cloud"]["detail"]
    assert feed.canary.requests == {"/ok/1.jpg": 1, "/ok/3.jpg": 1}
    assert feed.opened() == ["secret.jpg"]


def test_a_trusted_table_is_not_led_from_a_public_server_into_the_own_network(feed, tmp_path):
    port = feed.canary.port
    rows = {"direct": f"http://127.0.0.1:{port}/ok/1.jpg", "secret": str(feed.secret)}
    never = ["http://169.254.169.254/a.jpg", "http://[fe80::1]/a.jpg", "http://metadata.google.internal/a.jpg"]
    table = write_feed(feed, [*feed.redirects(), *never], rows)
    manifest = embed_again(table, tmp_path / "store")
    rejected = rows_of(tmp_path / "store", manifest, "rejected-")
    assert len(rejected) == len(feed.redirects()) + len(never)
    assert {row["reason"] for row in rejected.values()} == {"not_allowed"}
    assert feed.canary.requests == {"/ok/1.jpg": 1}  # the connection that is kept from it serves no redirect


@pytest.fixture(scope="module")
def trusted(shared_feed: HostileFeed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """Store, table and forbidden URIs, after a run that trusted the table: everything is embedded and published.

    Not to be written to.
    """
    feed, store = shared_feed, tmp_path_factory.mktemp("trusted") / "store"
    uris = [str(feed.secret), f"file://{feed.secret}", "../outside/secret.jpg", "link.jpg", "elsewhere/secret.jpg"]
    uris += feed.loopback_urls()
    good = {"plain-0": "fine.jpg", "plain-1": str(feed.folder / "fine.jpg")}
    table = write_feed(feed, uris, good, "trusted.csv")
    reindex(store, table, dataclasses.replace(REQUEST, max_shrink=1.0))
    newest = read_manifest(Store(str(store)), list_snapshots(Store(str(store)))[-1])
    assert newest.counts.embedded == len(uris) + len(good), newest.rejected_by_reason
    assert feed.canary.requests
    assert feed.opened()
    return store, table, uris


def test_reindex_does_not_go_on_with_what_a_trusting_run_embedded(trusted, feed, tmp_path):
    before, table, uris = trusted
    store = tmp_path / "store"
    shutil.copytree(before, store)
    request = dataclasses.replace(REQUEST, max_shrink=1.0, min_overlap=0.0)
    record = reindex(store, table, request, NONE)
    by_name = sum("localhost" in uri or ".test" in uri.lower().split("@")[-1] for uri in uris)
    assert record.rejected_by_reason == {"not_allowed": len(uris) - by_name}
    assert not feed.canary.requests  # what names mean is told when they are fetched again, which an own version saves
    assert not feed.opened()
    # Without a word of the catalog that nothing changed, names are looked up too.
    renewed = feed.folder / "renewed.csv"
    renewed.write_text(table.read_text(encoding="utf-8").replace("v1", "v2"), encoding="utf-8")
    record = reindex(store, renewed, request, NONE)
    assert record.rejected_by_reason == {"not_allowed": len(uris)}
    assert not feed.canary.requests
    assert not feed.opened()


def test_a_dry_run_does_not_tell_whether_a_file_is_there(feed):
    known = f"file:{feed.secret.stat().st_size}-{feed.secret.stat().st_mtime_ns}"
    for uri in (str(feed.secret), "link.jpg", "../outside/nothing.jpg"):
        row = CatalogRow("a", "a", uri, "", {}, "0")
        task = Task(row, PreviousRow("a", uri, known, "", 0, ""), known)
        assert _fate_of(task, str(feed.folder), policy_for(str(feed.folder), trust="none"), frozenset()) == "refused"


def test_serve_shows_nothing_that_the_catalog_may_not_name(trusted, feed):
    store, _, uris = trusted
    searcher = Searcher.open(str(store))
    rows = {searcher.rows.image_id(row): row for row in range(len(searcher.rows))}
    for trust in (NONE, Trust()):
        pictures = PictureSources(ServeOptions(str(store), trust=trust)).open_catalog(searcher)
        for number, uri in enumerate(uris):
            if trust == NONE or uri.startswith("http"):
                with pytest.raises(Rejected) as rejected:
                    pictures.fetch(uri, rows[f"bad-{number}"])
                assert rejected.value.reason is Reason.NOT_ALLOWED
        assert not feed.canary.requests
        assert not feed.opened()
        assert pictures.fetch("fine.jpg", rows["plain-0"]) == jpeg(5)
    options = ServeOptions(str(store), trust=NONE, poll_interval_s=3600, threads=2)
    with running(options) as server, Client(server.port) as client:
        assert client.ask("GET", "/v1/images/plain-0/thumbnail").status == 200
        for name in ("bad-0", "bad-3", "bad-6"):
            answer = client.ask("GET", f"/v1/images/{name}/thumbnail")
            assert (answer.status, answer.json["reason"]) == (404, "not_allowed")
    assert not feed.canary.requests
    assert not feed.opened()


@pytest.mark.parametrize("command", ["search", "evaluate"])
def test_pages_show_nothing_that_the_catalog_may_not_name(trusted, feed, tmp_path, capsys, command):
    store, _, uris = trusted
    page = tmp_path / "page.html"
    arguments = {
        "search": ["--image_id", "bad-0", "-k", str(len(uris) + 2), "--sheet", str(page)],
        "evaluate": ["--label", "category", "-k", "5", "--html", str(page)],
    }
    assert main([command, "--store", str(store), *arguments[command], "--trust", "none"]) == 0
    capsys.readouterr()
    assert page.read_text(encoding="utf-8").count("data:image/jpeg") <= len(HARMLESS)
    assert not feed.canary.requests
    assert not feed.opened()


def test_queries_of_an_evaluation_are_held_to_the_same(trusted, feed, monkeypatch, caplog):
    store, table, uris = trusted

    class Source(FakeEncoderSource):
        spec = EncoderSpec("Fake", "none", "0" * 64, "float32", 32, "pad", 16)

    monkeypatch.setattr(encoder.source, "open_source", lambda *_: Source())
    monkeypatch.setattr(encoder.source, "load_checked", lambda *_: None)
    searcher = Searcher.open(str(store))
    found = labelled_queries.queries_from_catalog(Store(str(store)), searcher, str(table), "category", NONE)
    assert sorted(hit.image_id for hit in found.pictures) == HARMLESS
    assert f"not_allowed {len(uris)}" in caplog.text
    assert "--allow_local" in caplog.text
    assert not feed.canary.requests
    assert not feed.opened()
    assert read_current(Store(str(store)))
