"""The ``authjwt_*`` settings."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StrictBool,
    StrictInt,
    StrictStr,
    field_validator,
)


def _strip(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _reveal(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Text = Annotated[StrictStr, BeforeValidator(_strip), Field(min_length=1)]
Key = Annotated[Text | None, BeforeValidator(_reveal), Field(repr=False)]
Life = StrictBool | StrictInt | timedelta
TokenType = Literal["access", "refresh"]
Location = Literal["headers", "cookies"]
Method = Annotated[
    Literal["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"], BeforeValidator(_upper)
]


class Config(BaseModel):
    """What `AuthJWT.load_config` reads; names that are none of these are passed over.

    Attributes:
        authjwt_token_location: Where tokens are looked for; the header comes first.
        authjwt_secret_key: What ``HS*`` tokens are signed with.
        authjwt_public_key: What other tokens are verified with, in PEM.
        authjwt_private_key: What they are signed with, in PEM.
        authjwt_algorithm: What tokens are signed with.
        authjwt_decode_algorithms: What they may be signed with; that one alone by default.
        authjwt_decode_leeway: For how long a token is accepted after it has expired; seconds.
        authjwt_encode_issuer: The ``iss`` of access tokens.
        authjwt_decode_issuer: The one that is demanded of them.
        authjwt_decode_audience: One of these must be in ``aud``.
        authjwt_denylist_enabled: Whether the loader is asked.
        authjwt_denylist_token_checks: The types of token that can be revoked.
        authjwt_header_name: The header with the token.
        authjwt_header_type: The word before it; empty or None for none.
        authjwt_access_token_expires: Seconds, or False for tokens that do not expire.
        authjwt_refresh_token_expires: Likewise.
        authjwt_access_cookie_key: The cookie with the access token.
        authjwt_refresh_cookie_key: The one with the refresh token.
        authjwt_access_cookie_path: Its path.
        authjwt_refresh_cookie_path: Its path.
        authjwt_cookie_max_age: For how many seconds cookies are kept; None for the session.
        authjwt_cookie_domain: Their domain.
        authjwt_cookie_secure: Whether they are sent over TLS only.
        authjwt_cookie_samesite: Whether other sites' requests carry them.
        authjwt_cookie_csrf_protect: Whether a request with a cookie must prove that it comes from
            our page.
        authjwt_access_csrf_cookie_key: The cookie with the value for that.
        authjwt_refresh_csrf_cookie_key: Likewise.
        authjwt_access_csrf_cookie_path: Its path.
        authjwt_refresh_csrf_cookie_path: Its path.
        authjwt_access_csrf_header_name: The header that the page sends the value in.
        authjwt_refresh_csrf_header_name: Likewise.
        authjwt_csrf_methods: The methods that need it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    authjwt_token_location: frozenset[Location] = frozenset({"headers"})
    authjwt_secret_key: Key = None
    authjwt_public_key: Key = None
    authjwt_private_key: Key = None
    authjwt_algorithm: Text = "HS256"
    authjwt_decode_algorithms: list[Text] | None = None
    authjwt_decode_leeway: StrictInt | timedelta = 0
    authjwt_encode_issuer: Text | None = None
    authjwt_decode_issuer: Text | None = None
    authjwt_decode_audience: Text | frozenset[Text] | None = None
    authjwt_denylist_enabled: StrictBool = False
    authjwt_denylist_token_checks: frozenset[TokenType] = frozenset({"access", "refresh"})
    authjwt_header_name: Text = "Authorization"
    authjwt_header_type: Annotated[StrictStr, BeforeValidator(_strip)] | None = "Bearer"
    authjwt_access_token_expires: Life = timedelta(minutes=15)
    authjwt_refresh_token_expires: Life = timedelta(days=30)
    authjwt_access_cookie_key: Text = "access_token_cookie"
    authjwt_refresh_cookie_key: Text = "refresh_token_cookie"
    authjwt_access_cookie_path: Text = "/"
    authjwt_refresh_cookie_path: Text = "/"
    authjwt_cookie_max_age: StrictInt | None = None
    authjwt_cookie_domain: Text | None = None
    authjwt_cookie_secure: StrictBool = False
    authjwt_cookie_samesite: Literal["strict", "lax", "none"] | None = None
    authjwt_cookie_csrf_protect: StrictBool = True
    authjwt_access_csrf_cookie_key: Text = "csrf_access_token"
    authjwt_refresh_csrf_cookie_key: Text = "csrf_refresh_token"
    authjwt_access_csrf_cookie_path: Text = "/"
    authjwt_refresh_csrf_cookie_path: Text = "/"
    authjwt_access_csrf_header_name: Text = "X-CSRF-Token"
    authjwt_refresh_csrf_header_name: Text = "X-CSRF-Token"
    authjwt_csrf_methods: frozenset[Method] = frozenset({"POST", "PUT", "PATCH", "DELETE"})

    @field_validator("authjwt_access_token_expires", "authjwt_refresh_token_expires")
    @classmethod
    def _only_false(cls, value: Life) -> Life:
        if value is True:
            raise ValueError("the only bool that it can be is False: tokens that do not expire")
        return value

    def of(self, token_type: TokenType, name: str) -> Any:
        """Return the setting ``authjwt_<token_type>_<name>``."""
        return getattr(self, f"authjwt_{token_type}_{name}")


def read_config(settings: object) -> Config:
    """Return the configuration that a settings object, or a list of pairs, is.

    Args:
        settings: A pydantic model (pydantic-settings, too), or name and value in pairs; names in
            upper or lower case.

    Raises:
        TypeError: It is neither.
        pydantic.ValidationError: A setting is wrong; the message names it, and not its value.
    """
    try:
        given = {name.lower(): value for name, value in settings}  # type: ignore[attr-defined]  # what is no pair is refused below
    except (TypeError, ValueError, AttributeError):
        message = "Config must be pydantic 'BaseSettings' or list of tuple"
        raise TypeError(message) from None
    return Config(**given)
