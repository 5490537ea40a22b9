"""Where a request has its token: a header, a cookie, a query parameter. Never in two at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl

from revokebus.errors import InvalidRequestError, InvalidTokenError, MissingTokenError
from revokebus.tokens.claims import AccessToken, Token

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from starlette.requests import HTTPConnection

    from revokebus.settings.settings import Settings

TokenSource = Literal["header", "cookie", "query"]

_MOST_PARAMETERS = 1000
_JWT_DOTS = 2
_SCHEME = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?= |$)")  # RFC 9110 §11.4


@dataclass(frozen=True, slots=True)
class Found:
    """A token of a request.

    Attributes:
        encoded: The token, as it was sent.
        source: Where it was.
    """

    encoded: str
    source: TokenSource


def find_token(
    connection: HTTPConnection,
    settings: Settings,
    sources: Sequence[TokenSource],
    token_type: type[Token],
    *,
    only_jwt: bool = False,
) -> Found:
    """Return the request's token.

    Args:
        connection: The request.
        settings: The names of headers, cookies and parameters.
        sources: Where to look; what is elsewhere does not count.
        token_type: Which of the cookies to take.
        only_jwt: Whether what has not the form of a JWT counts as none: an API key, for example.

    Raises:
        MissingTokenError: There is none.
        InvalidTokenError: There is something that cannot be one.
        InvalidRequestError: There is more than one (RFC 6750 §2); a bad one is not passed over.
    """
    found = _found(connection, settings, sources, token_type)
    if only_jwt:
        found = [each for each in found if each.encoded.count(".") == _JWT_DOTS]
    if not found:
        raise MissingTokenError
    if len(found) > 1:
        raise InvalidRequestError
    return found[0]


def _found(
    connection: HTTPConnection,
    settings: Settings,
    sources: Sequence[TokenSource],
    token_type: type[Token],
) -> list[Found]:
    return [
        each for source in sources for each in tokens_in(source, connection, settings, token_type)
    ]


def tokens_in(
    source: TokenSource,
    connection: HTTPConnection,
    settings: Settings,
    token_type: type[Token],
) -> list[Found]:
    """Return every token that one source of a request has.

    Raises:
        InvalidTokenError: There is something that cannot be one.
        InvalidRequestError: The header comes twice, or there are too many parameters.
    """
    if source == "header":
        name, scheme = settings.header
        tokens = header_tokens(connection.scope["headers"], name, scheme)
    elif source == "cookie":
        cookies = settings.cookies
        is_access = issubclass(token_type, AccessToken)
        tokens = cookie_tokens(
            connection.scope["headers"],
            cookies.access_name if is_access else cookies.refresh_name,
        )
    else:
        tokens = query_tokens(connection.scope["query_string"], settings.query_parameter)
    return [Found(token, source) for token in tokens]


def header_tokens(headers: Iterable[tuple[bytes, bytes]], name: bytes, scheme: bytes) -> list[str]:
    """Return the token of a header (RFC 6750 §2.1), or none.

    Args:
        headers: Names in lower case, and values, as an ASGI scope has them.
        name: The header, in lower case.
        scheme: The word before the token, in lower case; empty for none.

    Raises:
        InvalidRequestError: The header comes twice.
        InvalidTokenError: It is not the scheme and one token.
    """
    values = [value for each, value in headers if each == name]
    if not values:
        return []
    if len(values) > 1:
        raise InvalidRequestError(f"More than one {name.decode().title()} header")
    value = values[0].strip()
    if not scheme:
        return [_one_word(value, name)]
    match = _SCHEME.match(value)
    is_bare_token = match is not None and match[1] == value and value.count(b".") == _JWT_DOTS
    if (match is None and value) or is_bare_token:
        raise _malformed(name)  # it was meant as a token, perhaps of somebody who was signed out
    if match is None or match[1].lower() != scheme:
        return []
    return [_one_word(value[match.end() :].strip(b" "), name)]


def _one_word(token: bytes, name: bytes) -> str:
    if not token or len(token.split()) != 1:
        raise _malformed(name)
    return token.decode("latin-1")


def _malformed(name: bytes) -> InvalidTokenError:
    return InvalidTokenError(f"Malformed {name.decode().title()} header")


def cookie_tokens(headers: Iterable[tuple[bytes, bytes]], name: str) -> list[str]:
    """Return the values of the cookies of that name (RFC 6265 §5.4), of which there may be many.

    A page of a sibling domain can set another one; which of them the browser sends first says
    nothing about which is ours.
    """
    wanted = name.encode()
    found: list[str] = []
    for each, value in headers:
        if each == b"cookie":
            for pair in value.split(b";"):
                key, equals, token = pair.strip().partition(b"=")
                if equals and key == wanted and token:
                    found.append(token.decode("latin-1"))
    return found


def query_tokens(query: bytes, name: str) -> list[str]:
    """Return the values of the query parameter of that name (RFC 6750 §2.3).

    Raises:
        InvalidRequestError: There are more parameters than anybody needs.
        InvalidTokenError: It is empty.
    """
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS
        )
    except ValueError:
        raise InvalidRequestError("Too many query parameters") from None
    tokens = [value for key, value in pairs if key == name]
    if "" in tokens:
        raise InvalidTokenError(f"Empty query parameter {name}")
    return tokens
