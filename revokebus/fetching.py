"""Fetches a JSON document over HTTP, off the event loop and within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from http.client import HTTPResponse

MAX_BYTES = 1024 * 1024
_SOCKET_SECONDS = 5.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Whoever can redirect once would choose where the keys come from."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


async def fetch_json(url: str) -> object:
    """Return the JSON document at `url`; no redirect is followed.

    The caller sets the deadline. The thread that is left behind then is a daemon, and ends with its
    socket's timeout, or with the process.

    Raises:
        ValueError: The document is longer than 1 MiB, or no JSON.
        OSError: It could not be fetched.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[object] = loop.create_future()

    def settle(result: object, error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def work() -> None:
        result, error = None, None
        try:
            result = _download(url, done)
        except Exception as caught:  # noqa: BLE001 - it is raised where it is awaited
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop may have been closed
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="revokebus-fetch", daemon=True).start()
    return await done


def _opened(url: str) -> HTTPResponse:
    try:
        answer: HTTPResponse = _OPENER.open(url, timeout=_SOCKET_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        raise ValueError(f"the answer has the status {error.code}") from None
    return answer


def _download(url: str, done: asyncio.Future[object]) -> object:
    body = b""
    with _opened(url) as answer:
        while chunk := answer.read1(64 * 1024):
            body += chunk
            if len(body) > MAX_BYTES:
                raise ValueError(f"the document is longer than {MAX_BYTES} bytes")
            if done.done():  # nobody waits any more
                raise TimeoutError
    return json.loads(body)
