"""How the tokens are kept in a browser's cookies."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - pydantic reads it at run time
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_TOKEN = r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$"  # RFC 9110 §5.6.2  # noqa: S105
_NAME = r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]{0,128}$"
_PATH = r"^/[\x21-\x3a\x3c-\x7e]*$"  # RFC 6265 §4.1.1, path-value
_DOMAIN = r"^\.?[A-Za-z0-9.-]{1,253}$"


class CookieSettings(BaseModel):
    """Names and attributes of the cookies (RFC 6265 §4.1).

    A name that is not set begins with ``__Host-`` where the other settings allow it, so that no
    page of another host of the same domain can plant a cookie of that name, and otherwise with
    ``__Secure-`` (RFC 6265bis §4.1.3). Without `secure` it has neither.

    Attributes:
        access_name: The cookie of the access token; no script can read it. ``access_token``, with
            such a beginning.
        refresh_name: The cookie of the refresh token; likewise, ``refresh_token``.
        csrf_name: The cookie that scripts of the page read, to send it back in a header;
            ``csrf_token``.
        csrf_header: That header.
        secure: Whether the browser sends them over TLS only.
        samesite: With which requests from other sites the browser sends them: ``lax`` with links
            that are followed, ``strict`` with none, ``none`` with all.
        domain: For which domain and those below it they are; the host that set them by default.
        path: For which paths of the application they are.
        refresh_path: For which paths the refresh token's is, for example ``/refresh``.
        allowed_origins: Pages of these origins (``https://app.example``) may open a WebSocket
            with the cookies; by default only those of the same host.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    access_name: str = Field(default="", pattern=_NAME)
    refresh_name: str = Field(default="", pattern=_NAME)
    csrf_name: str = Field(default="", pattern=_NAME)
    csrf_header: str = Field(default="X-CSRF-Token", pattern=_TOKEN)
    secure: bool = True
    samesite: Literal["lax", "strict", "none"] = "lax"
    domain: str | None = Field(default=None, pattern=_DOMAIN)
    path: str = Field(default="/", pattern=_PATH)
    refresh_path: str = Field(default="/", pattern=_PATH)
    allowed_origins: Sequence[str] = ()

    @field_validator("allowed_origins")
    @classmethod
    def _freeze_origins(cls, origins: Sequence[str]) -> Sequence[str]:
        return tuple(origin.lower().rstrip("/") for origin in origins)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.samesite == "none" and not self.secure:
            raise ValueError(
                "samesite=none needs secure=true; browsers refuse the cookie otherwise"
            )
        self._name_what_is_not_named()
        self._check_prefixes()
        if len({self.access_name, self.refresh_name, self.csrf_name}) < 3:  # noqa: PLR2004
            raise ValueError("access_name, refresh_name and csrf_name must differ")
        return self

    def _name_what_is_not_named(self) -> None:
        for field, name, path in (
            ("access_name", "access_token", self.path),
            ("refresh_name", "refresh_token", self.refresh_path),
            ("csrf_name", "csrf_token", self.path),
        ):
            if not getattr(self, field):
                is_of_host = self.secure and not self.domain and path == "/"
                prefix = "__Host-" if is_of_host else "__Secure-" if self.secure else ""
                object.__setattr__(self, field, prefix + name)  # it is frozen from now on

    def _check_prefixes(self) -> None:
        """Check what the names promise (RFC 6265bis §4.1.3); browsers drop the cookie otherwise."""
        for name, path in (
            (self.access_name, self.path),
            (self.refresh_name, self.refresh_path),
            (self.csrf_name, self.path),
        ):
            if name.lower().startswith(("__host-", "__secure-")) and not self.secure:
                raise ValueError(f"a cookie called {name} needs secure=true")
            if name.lower().startswith("__host-") and (self.domain or path != "/"):
                raise ValueError(f"a cookie called {name} needs the path / and no domain")
