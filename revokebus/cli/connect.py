"""How the command reaches Redis, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from pydantic import ValidationError, model_validator
from pydantic_settings import SettingsError
from redis.exceptions import RedisError

from revokebus.clock import SystemClock
from revokebus.engine.engine import Engine
from revokebus.errors import (
    ConfigurationError,
    RevokeBusError,
    StoreError,
    UnavailableError,
)
from revokebus.settings.settings import Settings, unknown_variables
from revokebus.store.parts import StoreParts
from revokebus.tasks import end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable
    from pathlib import Path

    from revokebus.results import Finding

Answer = TypeVar("Answer")

REFUSED, USAGE, UNAVAILABLE, BROKEN_PIPE = 1, 2, 3, 141
"""Exit statuses: the answer is no; the command is wrong; Redis does not do it; nobody reads."""

_KEYS = ("secret_key", "private_key", "public_key", "jwks_url")


class OperatorSettings(Settings):
    """The settings of a process that issues and verifies nothing, and so needs no key."""

    @model_validator(mode="before")
    @classmethod
    def _make_up_a_key(cls, given: dict[str, Any]) -> dict[str, Any]:
        if any(given.get(name) for name in _KEYS):
            return given
        return {**given, "secret_key": secrets.token_urlsafe(64)}


def read_settings(env_file: Path | None, *, needs_keys: bool) -> Settings:
    """Return the settings from the environment, and from a file of variables.

    Args:
        env_file: The file; variables of the environment come before it.
        needs_keys: Whether tokens are to be verified.

    Raises:
        typer.Exit: They are wrong, which has been said.
    """
    kind = Settings if needs_keys else OperatorSettings
    try:
        settings = kind(_env_file=env_file) if env_file else kind()
    except ValidationError as error:
        for each in error.errors(include_input=False, include_url=False):
            where = "_".join(str(part) for part in each["loc"]).upper()
            say(f"{f'REVOKEBUS_{where}: ' if where else ''}{each['msg']}")
        raise typer.Exit(USAGE) from None
    except SettingsError as error:  # it names the setting, and not what was in it
        say(f"{error}; it is written as JSON")
        raise typer.Exit(USAGE) from None
    except UnicodeDecodeError:
        say(f"{env_file} is no file of variables")
        raise typer.Exit(USAGE) from None
    for name in unknown_variables(os.environ):
        say(f"the variable {name} is set and is no setting")
    if not settings.uses_redis:
        say("REVOKEBUS_REDIS_URL is memory://, which other processes cannot be reached through")
        raise typer.Exit(USAGE)
    return settings


def say(message: str) -> None:
    """Say what went wrong, on standard error."""
    typer.echo(f"revokebus: {message}", err=True)


def perform(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Do `work` and return its answer.

    Raises:
        typer.Exit: It failed, which has been said.
    """
    try:
        return asyncio.run(_interruptible(work))
    except (StoreError, RedisError) as error:
        say(f"{error}. Is REVOKEBUS_REDIS_URL right?")
        raise typer.Exit(UNAVAILABLE) from None
    except (UnavailableError, ConfigurationError) as error:
        say(str(error))
        raise typer.Exit(UNAVAILABLE) from None
    except (RevokeBusError, ValueError, TypeError) as error:
        say(str(error))
        raise typer.Exit(USAGE) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


async def _interruptible(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Do `work` until Ctrl-C, which asyncio passes on once only: redis-py may lose that."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    finally:
        await end([task])
    return task.result()


@contextlib.asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[StoreParts]:
    """Open Redis, without a copy and without being an instance."""
    redis = StoreParts.of(settings, SystemClock())
    try:
        yield redis
    finally:
        await redis.close()


@contextlib.asynccontextmanager
async def opened_engine(settings: Settings) -> AsyncIterator[Engine]:
    """Start a bus that may revoke.

    Raises:
        StoreError: It has no proven copy.
        ValueError: Instances are set up otherwise than this command.
    """
    async with Engine(settings) as engine:
        status = engine.status()
        if status.state != "fresh":
            raise StoreError(status.last_error or "Redis does not answer")
        compare(await engine.audit())
        yield engine


def compare(findings: Iterable[Finding]) -> None:
    """Refuse to revoke where instances would not take it as this command means it.

    Raises:
        ValueError: Their clocks, issuer or claims are others.
    """
    for finding in findings:
        if finding.check in ("clock", "alike") and finding.level != "ok":
            raise ValueError(f"{finding.message}; {finding.remedy}")
        if finding.check == "lifetimes" and finding.level != "ok":
            say(f"{finding.message}; {finding.remedy}")
