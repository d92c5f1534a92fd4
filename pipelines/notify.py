"""Telling a webhook how a run ended."""

from __future__ import annotations

import http.client
import json
import random
import time
import urllib.parse
from collections.abc import Callable

import urllib3
from urllib3 import exceptions as http_errors

from fetch.deadline import Deadline, DeadlineHttpPool, DeadlineHttpsPool, current_deadline
from fetch.http import shown_uri
from fetch.options import FetchOptions
from fetch.retries import PassingFailure, retry_after_s, with_retries
from store.errors import UserError
from store.rejects import Reason, Rejected
from store.runs import RunRecord

LIMITS = FetchOptions(connect_timeout_s=5.0, read_timeout_s=10.0, attempts=3, backoff_s=2.0, deadline_s=60.0)

_FATES = ("embedded", "reused", "rejected")
_MOST_TEXT = 500


def check_notify_url(url: str) -> urllib3.util.Url:
    """Takes a webhook's URL apart; to be asked before a long run.

    Raises:
        UserError: It is not one of http or https. The URL is not quoted: its path or query may be the secret.
    """
    try:
        target = urllib3.util.parse_url(url)
    except http_errors.LocationParseError as error:
        raise UserError("--notify: expected an http:// or https:// URL, found one that is not well-formed") from error
    if target.scheme not in ("http", "https") or not target.host:
        found = f"the scheme {target.scheme!r}" if target.scheme and target.host else "no host"
        raise UserError(f"--notify: expected an http:// or https:// URL, found {found}")
    return target


def notify(
    url: str,
    record: RunRecord,
    *,
    limits: FetchOptions = LIMITS,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """POSTs a run's record as JSON, with a line of text that chat services show.

    Connection errors, timeouts, 408, 425, 429 and 5xx are tried again. Redirects are not followed: most would turn the
    POST into a GET, and the record is meant for the URL given and no other.

    Args:
        url: Of the webhook; user and password in it are sent as basic authentication.
        record: Of the run.
        limits: Timeouts, attempts, pauses.
        sleep: Waits between attempts.

    Returns:
        "", or in one line why the notification was not delivered. Names the webhook by its host alone.

    Raises:
        UserError: See `check_notify_url`.
    """
    target = check_notify_url(url)
    deadline = Deadline(time.monotonic, limits.deadline_s)
    token = current_deadline.set(deadline)
    try:
        _deliver(target, record, limits, deadline, sleep)
    except Rejected as rejected:
        return f"the notification was not delivered: {rejected.detail}"
    finally:
        current_deadline.reset(token)
    return ""


def _deliver(
    target: urllib3.util.Url,
    record: RunRecord,
    limits: FetchOptions,
    deadline: Deadline,
    sleep: Callable[[float], None],
) -> None:
    where = f"{target.scheme}://{target.netloc}"
    with urllib3.PoolManager(num_pools=1) as pools:
        pools.pool_classes_by_scheme = {"http": DeadlineHttpPool, "https": DeadlineHttpsPool}
        with_retries(
            lambda: _post(pools, target, where, notification(record), limits),
            limits,
            deadline,
            sleep,
            random.Random(record.run),  # noqa: S311 (spreads retries, guards nothing)
        )


def notification(record: RunRecord) -> bytes:
    """What is sent: the record's JSON and `text`; a password in the catalog's URI stays here."""
    document = {**json.loads(record.to_json()), "catalog": shown_uri(record.catalog), "text": describe_run(record)}
    return json.dumps(document, ensure_ascii=False).encode()


def describe_run(record: RunRecord) -> str:
    """A run in one line."""
    parts = [f"shelfmark reindex of {shown_uri(record.catalog)}: {record.outcome.replace('_', ' ')}"]
    if record.counts.get("catalog_rows") is not None:
        fates = [f"{record.counts[fate]:,} {fate}" for fate in _FATES if fate in record.counts]
        parts.append(f"{record.counts['catalog_rows']:,} rows ({', '.join(fates)})")
    if record.recall is not None:
        parts.append(f"recall {record.recall.measured:.4f}")
    if record.version and record.outcome == "published":
        parts.append(f"version {record.version}")
    if record.total_seconds is not None:
        parts.append(f"{record.total_seconds:,.0f} s")
    if record.message:
        parts.append(" ".join(record.message.split())[:_MOST_TEXT])
    return "; ".join(parts)


def _post(pools: urllib3.PoolManager, target: urllib3.util.Url, where: str, body: bytes, limits: FetchOptions) -> None:
    """One attempt.

    Raises:
        PassingFailure: Another may succeed.
        Rejected: None will.
    """
    auth = urllib3.make_headers(basic_auth=urllib.parse.unquote(target.auth)) if target.auth else {}
    try:
        response = pools.urlopen(
            "POST",
            target._replace(auth=None).url,
            body=body,
            headers={"Content-Type": "application/json", "User-Agent": "shelfmark", **auth},
            timeout=urllib3.Timeout(connect=limits.connect_timeout_s, read=limits.read_timeout_s),
            retries=False,
            redirect=False,
            preload_content=False,  # what the answer says beyond its status is of no use, and may never end
        )
    except http_errors.NewConnectionError as error:  # a kind of TimeoutError, but nothing was waited for
        raise PassingFailure(Reason.FETCH_ERROR, f"no connection to {where}") from error
    except http_errors.TimeoutError as error:
        raise PassingFailure(Reason.TIMEOUT, f"no answer in time from {where}") from error
    except (http_errors.HTTPError, http.client.HTTPException, OSError) as error:
        raise PassingFailure(Reason.FETCH_ERROR, f"{type(error).__name__} from {where}") from error
    response.close()
    if 200 <= response.status < 300:
        return
    detail = f"HTTP {response.status} from {where}"
    if response.status in (408, 425, 429) or response.status >= 500:
        raise PassingFailure(Reason.FETCH_ERROR, detail, retry_after_s(response.headers.get("Retry-After")))
    if response.get_redirect_location():
        detail += ", which redirects: give the final address"
    raise Rejected(Reason.FETCH_ERROR, detail)
