"""The user and the password for Redis: from the URL, from a file, or from a provider."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from redis.credentials import CredentialProvider as RedisCredentialProvider
from redis.exceptions import ConnectionError as RedisConnectionError

from revokebus.settings.redis_url import parse_redis_url

if TYPE_CHECKING:
    from pathlib import Path

    from revokebus.settings.redis_url import RedisUrl
    from revokebus.settings.settings import Settings


class CredentialProvider(Protocol):
    """Has the password of the moment; redis-py's ``CredentialProvider`` is one."""

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Return the password, or the user and the password; asked for each connection."""


@dataclass(frozen=True, slots=True)
class PasswordFile(RedisCredentialProvider):
    """Reads the password from a file, for each connection anew.

    Args:
        path: The file; spaces and line ends around the password do not count.
        username: The user, where it is not the default one.
    """

    path: Path
    username: str | None = None

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return them.

        Raises:
            redis.ConnectionError: The file cannot be read.
        """
        try:
            password = self.path.read_text().strip()
        except (OSError, UnicodeError):
            message = "redis_password_file (REVOKEBUS_REDIS_PASSWORD_FILE) cannot be read"
            raise RedisConnectionError(message) from None
        return (self.username, password) if self.username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Return them; a file of a few bytes is read at once."""
        return self.get_credentials()


@dataclass(frozen=True, slots=True)
class _Guarded(RedisCredentialProvider):
    """One of the application's, whose errors are those of a connection that cannot be made."""

    provider: CredentialProvider

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        try:
            return await self.provider.get_credentials_async()
        except Exception as error:
            # Its type alone: the message may quote a secret.
            message = f"credentials: {type(error).__name__}"
            raise RedisConnectionError(message) from error


def url_with_credentials(
    settings: Settings, credentials: CredentialProvider | None, text: str
) -> RedisUrl:
    """Return what a URL of `settings` says, with a provider where the password is not in it.

    Args:
        settings: Perhaps name a file.
        credentials: The application's provider, in place of both.
        text: The URL.
    """
    url = parse_redis_url(text)
    if url.has_password:
        return url
    path = settings.redis_password_file
    options = {k: v for k, v in url.options.items() if k not in ("username", "password")}
    provider: RedisCredentialProvider
    if credentials is not None:
        provider = _Guarded(credentials)
    elif path is not None:
        provider = PasswordFile(path, url.options.get("username"))
    else:
        return url
    return replace(url, options={**options, "credential_provider": provider})
