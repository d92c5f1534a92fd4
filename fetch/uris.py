"""URIs of pictures and catalogs, taken apart: schemes, paths, buckets, and where relative ones start."""

from __future__ import annotations

import os
import posixpath
import re
import urllib.parse

from fetch.http import shown_uri
from store.rejects import Reason, Rejected

TABLE_SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
WILDCARD = re.compile(r"[*?\[]")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def scheme_of(uri: str) -> str:
    r"""The scheme in lower case, "" for a path. Needs "://": C:\shoes.jpg and red:1.jpg are file names."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else ""


def path_of(file_uri: str) -> str:
    """The local path of a file:// URI, percent-decoded byte by byte.

    Raises:
        Rejected: fetch_error, if it is not absolute or names another host.
    """
    rest = file_uri.split("://", 1)[1]
    path = os.fsdecode(urllib.parse.unquote_to_bytes(rest.removeprefix("localhost")))
    if not path.startswith("/"):
        raise Rejected(Reason.FETCH_ERROR, f"expected file:///folder/picture, found {shown_uri(file_uri)}")
    return path


def resolve_uri(uri: str, base: str) -> str:
    """The URI of a picture as its catalog names it.

    Args:
        uri: As written in the catalog: absolute or relative to the catalog's folder.
        base: The folder of the catalog's table: a local path, a file:// URI, or the prefix of any other scheme.

    Returns:
        `uri` itself if it has a scheme or is an absolute path (which an http base resolves against its host, as a
        browser would); otherwise its place under `base`. A name relative to a local folder stays a file name: nothing
        in it is percent-decoded or taken for a query.

    Raises:
        Rejected: fetch_error, if `base` is a file:// URI without an absolute path.
    """
    if scheme_of(uri):
        return uri
    scheme = scheme_of(base)
    if scheme in ("http", "https"):
        # "./" keeps a colon in a file's name from being read as a scheme.
        return urllib.parse.urljoin(base.rstrip("/") + "/", uri if uri.startswith("/") else "./" + uri)
    if os.path.isabs(uri):
        return uri
    if scheme == "file":
        return os.path.join(path_of(base), uri)
    if not scheme:
        return os.path.join(base, uri)
    prefix, rest = base.split("://", 1)
    joined = posixpath.join(rest, uri)
    # Object stores take ".." for a name. Only where one is present: normpath would also merge "//", a legal key.
    dotted = not {".", ".."}.isdisjoint(joined.split("/"))
    return f"{prefix}://{posixpath.normpath(joined) if dotted else joined}"


def bucket_of(uri: str) -> str:
    """What a URI of an object store begins with: gs://bucket of gs://bucket/folder/picture."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme.lower()}://{rest.partition('/')[0]}"


def table_kind(path: str) -> str | None:
    """Csv, jsonl or parquet by the name's extension (a .gz or .bz2 after it is allowed), or None."""
    stem, suffix = posixpath.splitext(path.lower())
    if suffix in {".gz", ".bz2"}:
        suffix = posixpath.splitext(stem)[1]
    return TABLE_SUFFIXES.get(suffix)


def catalog_base(uri: str) -> str:
    """Where a catalog's relative image URIs start from, told by its URI alone."""
    path = uri.removeprefix("file://")
    if re.match(r"https?://", path):
        return re.sub(r"[?#].*", "", path).rsplit("/", 1)[0]
    if table_kind(path) is not None:
        return posixpath.dirname(path)
    wildcard = WILDCARD.search(path)
    return posixpath.dirname(path[: wildcard.start()] + "x") if wildcard else path.rstrip("/") or "/"
