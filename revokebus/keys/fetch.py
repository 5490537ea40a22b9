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


class Fetcher:
    """Fetches a JSON document, one attempt at a time.

    Args:
        url: Where it is.

    Attributes:
        ended: Set while no attempt is under way, abandoned ones included.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.ended = threading.Event()
        self.ended.set()

    async def fetch(self) -> object:
        """Return the document; no redirect is followed.

        The caller sets the deadline. A thread that is left behind then is a daemon; until it has
        ended, no other one is started.

        Raises:
            ValueError: The document is longer than 1 MiB, or no JSON.
            OSError: It could not be fetched, or the attempt before has not ended yet.
        """
        if not self.ended.is_set():
            raise OSError("the attempt before has not ended yet")
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        # It blocks: name resolution, TLS and reading happen in a thread.
        self.ended.clear()
        args = (self._url, done, self.ended)
        threading.Thread(target=_work, args=args, name="revokebus-fetch", daemon=True).start()
        return await done


def _work(url: str, done: asyncio.Future[object], ended: threading.Event) -> None:
    result, error = None, None
    try:
        result = _download(url, done)
    except Exception as caught:  # noqa: BLE001 - it is raised where it is awaited
        error = caught
    ended.set()  # before anybody can know of the result and fetch again
    with contextlib.suppress(RuntimeError):  # the loop may have been closed
        done.get_loop().call_soon_threadsafe(_settle, done, result, error)


def _settle(done: asyncio.Future[object], result: object, error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)


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
