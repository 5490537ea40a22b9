from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from pydantic import BaseModel

from revokebus import AccessToken
from revokebus.engine.engine import Engine
from revokebus.errors import RevokedTokenError
from revokebus.tokens.as_json import as_json

if TYPE_CHECKING:
    from tests.support import MakeSettings

ID = UUID("f81d4fae-7dec-11d0-a765-00a0c91e6bf6")
AT = datetime(2026, 1, 31, 12, 30, 0, 250000, tzinfo=timezone(timedelta(hours=2)))


class Claims(BaseModel):
    """What the tokens of an application say."""

    tenant: UUID
    seen: datetime
    born: date
    teams: list[UUID]


async def test_typed_claims_go_there_and_back(make_settings: MakeSettings) -> None:
    """Each application would write and read its ids and dates in its own way."""
    async with Engine(make_settings(revocable_claims=["tenant", "teams"])) as engine:
        claims = {"tenant": ID, "seen": AT, "born": date(2000, 2, 29), "teams": [ID]}
        pair = engine.issue("alice", claims=claims)
        token = await engine.authenticate(pair.access_token, AccessToken)
        assert Claims.model_validate(token.claims) == Claims.model_validate(claims)
        assert token.claims["tenant"] == str(ID)
        await engine.revoke_claim("teams", ID)
        with pytest.raises(RevokedTokenError):
            await engine.authenticate(pair.access_token, AccessToken)


def test_what_json_has_stays_as_it_is() -> None:
    """Claims of every application until now would change."""
    value: dict[str, object] = {"a": [1, 2.5, None, True, "x", {"b": []}], "c": {}}
    assert as_json(value) == value
    assert json.dumps(as_json({"d": (ID, AT.astimezone(UTC))})) == json.dumps(
        {"d": [str(ID), "2026-01-31T10:30:00.250000+00:00"]}
    )


def test_a_datetime_without_a_zone_is_refused(make_settings: MakeSettings) -> None:
    """A moment would be another one wherever it is read."""
    naive = AT.replace(tzinfo=None)
    with pytest.raises(ValueError, match="time zone"):
        Engine(make_settings()).issue("alice", claims={"seen": [naive]})
