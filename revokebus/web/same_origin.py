"""Which page has sent a request: of this origin, of another, or none, because no browser has."""

from __future__ import annotations

# FastAPI reads the signature where the inner parentheses are forgotten.
from collections.abc import Awaitable, Callable, Iterable  # noqa: TC003
from typing import Annotated, Literal, Never

from fastapi import HTTPException
from starlette.requests import Request  # noqa: TC002 - FastAPI reads it

from revokebus.web.guards import CallIt

Sender = Literal["ours", "another", "unknown"]

_DETAIL = "Only a page of this site may send this"


def sender_of(request: Request, allowed_origins: Iterable[str] = ()) -> Sender:
    """Return whose page has sent `request`; ``unknown`` where the headers do not tell.

    Browsers send ``Sec-Fetch-Site`` (W3C Fetch Metadata), those before 2020 ``Origin`` with every
    POST to another origin. Programs send neither.

    Args:
        request: The request.
        allowed_origins: Other origins that are ours as well, as ``https://app.example``.
    """
    origin = request.headers.get("origin", "").lower()
    if origin and origin in allowed_origins:
        return "ours"
    site = request.headers.get("sec-fetch-site")
    if site == "none":  # the address bar, a bookmark, a link in a mail
        return "unknown"
    if site is not None:
        return "ours" if site == "same-origin" else "another"
    if not origin:
        return "unknown"
    authority = origin.partition("://")[2]
    return "ours" if authority and authority == request.headers.get("host") else "another"


def require_same_origin(
    *_: Annotated[Never, CallIt("require_same_origin")], allowed_origins: Iterable[str] = ()
) -> Callable[..., Awaitable[None]]:
    """Return a dependency that refuses what a page of another site has caused: for a sign-in.

    Otherwise another site could sign its visitor in to an account of its own choice, to see there
    what the visitor then writes (login CSRF, OWASP). What no page has caused passes.

    Args:
        allowed_origins: Origins other than the application's own whose pages sign users in, as
            ``https://app.example``.

    The dependency answers 403.

    Raises:
        ValueError: `allowed_origins` is one text.
    """
    if isinstance(allowed_origins, str):
        raise ValueError("allowed_origins must be a list")  # noqa: TRY004 - as `sources` has it
    allowed = frozenset(origin.lower().rstrip("/") for origin in allowed_origins)

    async def same_origin(request: Request) -> None:
        if sender_of(request, allowed) == "another":
            raise HTTPException(403, _DETAIL)

    return same_origin
