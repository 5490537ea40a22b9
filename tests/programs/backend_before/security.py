"""Passwords, and tokens."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from .config import SECRET_KEY

ALGORITHM = "HS256"


def create_access_token(subject: Any, expires_delta: timedelta) -> str:
    expire = datetime.now(UTC) + expires_delta
    return jwt.encode({"exp": expire, "sub": str(subject)}, SECRET_KEY, algorithm=ALGORITHM)


def hashed(password: str) -> str:
    salt = secrets.token_hex(8)
    return f"{salt}${hashlib.scrypt(password.encode(), salt=salt.encode(), n=16, r=8, p=1).hex()}"


def is_password_of(held: str, password: str) -> bool:
    salt, _, digest = held.partition("$")
    given = hashlib.scrypt(password.encode(), salt=salt.encode(), n=16, r=8, p=1).hex()
    return hmac.compare_digest(digest, given)
