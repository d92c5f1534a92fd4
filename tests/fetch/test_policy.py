"""What a catalog may name: by where it came from, by flags, and whatever is moved or redirected meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetch import policy as policy_module
from fetch.addresses import is_never_allowed, is_public
from fetch.allowed_hosts import literal_address
from fetch.embedded import fetch_embedded
from fetch.fetcher import ImageFetcher, is_same_file
from fetch.http import parse_url
from fetch.options import FetchOptions
from fetch.policy import ON_REQUEST, FetchPolicy, policy_for
from store.rejects import Reason, Rejected
from tests.support.hostile_feed import PUBLIC, HostileFeed, hostile_feed
from tests.support.http_server import jpeg

OPTIONS = FetchOptions(connect_timeout_s=2, read_timeout_s=5, deadline_s=10, backoff_s=0.01, max_backoff_s=0.02)
NONE_HERE = policy_for("/srv/feed", trust="none")
FROM_WEB = policy_for("https://shop.example/feed")
FROM_BUCKET = policy_for("gs://shop/feed")


@pytest.fixture
def feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileFeed]:
    with hostile_feed(tmp_path, monkeypatch) as made:
        yield made


def refusal(policy: FetchPolicy, uri: str) -> str:
    """Why the policy does not let a URI be fetched; "" where it does."""
    try:
        policy.check(uri)
    except Rejected as rejected:
        if rejected.passing or rejected.reason is not Reason.NOT_ALLOWED:
            raise
        return rejected.detail
    return ""


@pytest.mark.parametrize(
    ("base", "trust", "path", "inside", "bucket", "own_bucket", "private"),
    [
        ("/srv/feed", "auto", True, True, True, True, True),
        ("file:///srv/feed", "auto", True, True, True, True, True),
        ("/srv/feed", "none", False, True, False, False, False),
        ("https://shop.example/feed", "auto", False, False, False, False, False),
        ("https://shop.example/feed", "none", False, False, False, False, False),
        ("gs://shop/feed", "auto", False, False, True, True, False),
        ("gs://shop/feed", "none", False, False, False, True, False),
    ],
)
def test_the_rules_by_where_a_table_came_from(base, trust, path, inside, bucket, own_bucket, private):
    policy = policy_for(base, trust=trust)
    may = {
        "/etc/hostname": path,
        "file:///etc/hostname": path,
        "/srv/feed/a/b.jpg": inside,
        "gs://other/a.jpg": bucket,
        "gs://shop/a.jpg": own_bucket,
        "http://10.0.0.1/a.jpg": private,
        "http://127.1/a.jpg": private,
        "https://images.example/a.jpg": True,
        "https://93.184.216.34/a.jpg": True,
        "http://169.254.169.254/": False,
        "http://[fe80::1%25eth0]/": False,
    }
    assert {uri: not refusal(policy, uri) for uri in may} == may


def test_a_refusal_names_the_flag_and_not_what_is_there():
    assert "--allow_local DIR" in refusal(NONE_HERE, "/etc/passwd")
    assert refusal(NONE_HERE, "/etc/passwd").replace("passwd", "nothing-here") == refusal(
        NONE_HERE, "/etc/nothing-here"
    )
    assert "--allow_hosts 10.0.0.1:8080" in refusal(FROM_WEB, "http://user:s3cret@10.0.0.1:8080/a")
    assert "s3cret" not in refusal(FROM_WEB, "http://user:s3cret@10.0.0.1:8080/a")
    assert "--allow_hosts s3://other" in refusal(FROM_WEB, "S3://other/a.jpg")
    assert "never" in refusal(ON_REQUEST, "http://169.254.169.254/a")


def test_flags_open_a_folder_a_host_or_a_bucket():
    policy = policy_for(
        "https://shop.example", allow_local=["/srv/pictures/"], allow_hosts=["10.0.0.1:8080", "GS://other/", "*.local"]
    )
    allowed = ("/srv/pictures/a.jpg", "http://10.0.0.1:8080/a.jpg", "gs://other/a.jpg")
    assert not any(refusal(policy, uri) for uri in allowed)
    others = ("/srv/pictures-of-others/a.jpg", "/srv/pictures", "http://10.0.0.1/a.jpg", "gs://others/a.jpg")
    assert all(refusal(policy, uri) for uri in others)
    everywhere = policy_for("https://shop.example", allow_local=["/"])
    assert not refusal(everywhere, "/etc/hostname")
    assert all(refusal(everywhere, uri) for uri in ("/proc/self/environ", "/dev/zero", "/sys/kernel/notes"))


@pytest.mark.parametrize("entry", ["http://host", "gs://", "gs://bucket/folder", "host/path", "file:///srv", "a b"])
def test_an_entry_that_makes_no_sense_is_told(entry):
    with pytest.raises(ValueError, match="expected"):
        policy_for("https://shop.example", allow_hosts=[entry])


def test_it_travels_to_workers():
    policy = policy_for("/srv/feed", trust="none", allow_hosts=["a.example", "gs://other"]).only_hosts(["b.example"])
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert hash(policy)


def test_only_named_hosts_where_only_those_are_wanted():
    policy = policy_for("/srv/feed", allow_hosts=["10.0.0.1"]).only_hosts(["*.example.com"])
    assert not refusal(policy, "https://images.example.com/a.jpg")
    assert not refusal(policy, "http://10.0.0.1/a.jpg")
    assert "--allow_fetch images.other.com" in refusal(policy.only_hosts([]), "https://images.other.com/a.jpg")
    beside = policy.also_below("https://cdn.example:8443/all")
    assert not refusal(beside, "https://cdn.example:8443/a.jpg")
    assert refusal(beside, "https://cdn.example/a.jpg")
    assert not refusal(NONE_HERE.also_below("/srv/other"), "/srv/other/a.jpg")
    assert not refusal(FROM_WEB.also_below("gs://other/folder"), "gs://other/a.jpg")


# --- addresses


NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
]
NEVER += ["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "fd20:ce::254"]
NEVER += ["::169.254.169.254", "2001:0:1::5601:5601", "2600:1:2::a9fe:a9fe", "fe80::5efe:10.0.0.1"]


@pytest.mark.parametrize("text", NEVER)
def test_what_is_never_connected_to(text):
    address = ipaddress.ip_address(text)
    assert is_never_allowed(address)
    assert not is_public(address)


@given(st.ip_addresses())
def test_what_is_public_is_never_what_never_is(address):
    assert not (is_public(address) and is_never_allowed(address))


@pytest.mark.parametrize("text", ["127.0.0.1", "10.0.0.1", "93.184.216.34", "2606:2800:220:1::1", "::1", "fc00::1"])
def test_the_rest_may_be_allowed(text):
    assert not is_never_allowed(ipaddress.ip_address(text))


# --- what is fetched


def fetch(policy: FetchPolicy, uri: str) -> bytes:
    fetcher = ImageFetcher(OPTIONS, policy)
    try:
        return fetcher.fetch(uri)
    finally:
        fetcher.close()


def refused_fetch(policy: FetchPolicy, uri: str) -> str:
    with pytest.raises(Rejected) as rejected:
        fetch(policy, uri)
    assert rejected.value.reason is Reason.NOT_ALLOWED
    return rejected.value.detail


def test_a_connection_that_is_kept_is_looked_at_again(feed):
    port = feed.canary.port
    fetcher = ImageFetcher(OPTIONS, ON_REQUEST)
    direct = f"http://127.0.0.1:{port}/ok/1.jpg"
    assert fetcher.fetch(direct) == jpeg(1)
    assert feed.canary.connections == 1
    with pytest.raises(Rejected, match="not_allowed"):
        fetcher.fetch(feed.redirect(302, direct))
    assert fetcher.fetch(direct) == jpeg(1)
    assert feed.canary.requests == {"/ok/1.jpg": 2}
    fetcher.close()


def test_a_host_of_the_own_network_may_lead_on_within_it(feed):
    port = feed.canary.port
    assert fetch(ON_REQUEST, f"http://127.0.0.1:{port}/redirect?to=http://loopback.test:{port}/ok/2.jpg") == jpeg(2)
    out = f"http://127.0.0.1:{port}/redirect?to=http://public.test:{feed.public.port}/redirect"
    assert fetch(ON_REQUEST, out) == jpeg(1)
    back = f"http://127.0.0.1:{port}/redirect?to={feed.redirect(302, f'http://127.0.0.1:{port}/ok/3.jpg')}"
    assert "--allow_hosts" in refused_fetch(ON_REQUEST, back.replace("&", "%26").replace("?code", "%3Fcode"))
    assert "/ok/3.jpg" not in feed.canary.requests


def test_a_name_is_looked_up_once_and_connected_to_where_it_was_found(feed):
    feed.resolver.answers["turns.test"] = [[PUBLIC], ["127.0.0.1"]]
    url = f"http://turns.test:{feed.public.port}/redirect?to=http://turns.test:{feed.public.port}/ok/4.jpg"
    assert fetch(FROM_WEB, url) == jpeg(4)  # one connection, to the address that was checked
    assert feed.resolver.lookups == ["turns.test"]
    assert "turns.test" in refused_fetch(FROM_WEB, f"http://turns.test:{feed.canary.port}/ok/1.jpg")
    assert not feed.canary.requests


def test_the_policy_is_that_of_the_flags_for_an_allowed_name(feed):
    port = feed.canary.port
    policy = policy_for("https://shop.example", allow_hosts=[f"loopback.test:{port}"])
    assert fetch(policy, f"http://loopback.test:{port}/ok/1.jpg") == jpeg(1)
    assert fetch(policy, feed.redirect(307, f"http://loopback.test:{port}/ok/2.jpg")) == jpeg(2)
    refused_fetch(policy, f"http://127.0.0.1:{port}/ok/1.jpg")
    named = policy_for("https://shop.example", allow_hosts=["metadata.google.internal"])
    assert "never" in refused_fetch(named, "http://metadata.google.internal/")


def test_a_folder_that_becomes_a_link_after_the_check_leads_nowhere(feed, monkeypatch):
    policy = policy_for(str(feed.folder), trust="none")
    (feed.folder / "sub" / "secret.jpg").write_bytes(jpeg(1))
    assert fetch(policy, str(feed.folder / "sub" / "secret.jpg")) == jpeg(1)
    real_open = os.open

    def swap(path, *arguments, **options):
        if path == "sub":
            (feed.folder / "sub").rename(feed.folder / "moved")
            (feed.folder / "sub").symlink_to(feed.secret.parent)
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", swap)
    feed.opened()
    refused_fetch(policy, str(feed.folder / "sub" / "secret.jpg"))
    assert not feed.opened()


def test_a_file_that_becomes_a_link_after_the_check_is_not_followed(feed, monkeypatch):
    policy = policy_for(str(feed.folder), trust="none")
    real_open = os.open

    def swap(path, *arguments, **options):
        if path == "fine.jpg":
            (feed.folder / "fine.jpg").unlink()
            (feed.folder / "fine.jpg").symlink_to(feed.secret)
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", swap)
    refused_fetch(policy, str(feed.folder / "fine.jpg"))


def test_links_that_stay_within_the_folder_are_followed(feed):
    policy = policy_for(str(feed.folder), trust="none")
    (feed.folder / "inner.jpg").symlink_to("fine.jpg")
    (feed.folder / "alias").symlink_to(feed.folder / "sub")
    (feed.folder / "sub" / "b.jpg").write_bytes(jpeg(2))
    assert fetch(policy, str(feed.folder / "inner.jpg")) == jpeg(5)
    assert fetch(policy, str(feed.folder / "alias" / "b.jpg")) == jpeg(2)
    with pytest.raises(Rejected, match="not_found"):
        fetch(policy, str(feed.folder / "none.jpg"))


def test_the_folder_itself_may_be_a_link(feed):
    alias = feed.folder.parent / "alias"
    alias.symlink_to(feed.folder)
    assert fetch(policy_for(str(alias), trust="none"), str(alias / "fine.jpg")) == jpeg(5)


def test_a_file_is_not_asked_about_that_may_not_be_named(feed):
    with pytest.raises(Rejected, match="not_allowed"):
        is_same_file(str(feed.secret), "file:1-1", policy_for(str(feed.folder), trust="none"))
    assert is_same_file(str(feed.secret), "file:1-1", ON_REQUEST) is False


def test_what_is_shown_is_what_was_embedded():
    digest = hashlib.sha256(b"one").hexdigest()
    assert fetch_embedded(lambda uri: b"one", "a.jpg", digest) == b"one"
    for found, known in ((b"another", digest), (b"one", "")):
        with pytest.raises(Rejected) as rejected:
            fetch_embedded({"a.jpg": found}.__getitem__, "a.jpg", known)
        assert rejected.value.reason is Reason.CHANGED


@given(st.from_regex(r"https?://[A-Za-z0-9.-]{0,20}\.[A-Za-z]{2,5}(:[0-9]{1,5})?/", fullmatch=True))
def test_the_fast_way_for_names_lets_no_address_pass(url):
    assert policy_module._PLAIN_NAME.match(url)
    with contextlib.suppress(Rejected):  # no URL at all
        assert literal_address(parse_url(url).host or "") is None
