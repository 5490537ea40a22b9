"""Passwords, and tokens."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from revokebus import RevokeBus, Settings

from .config import ACCESS_TOKEN_EXPIRE_MINUTES, SECRET_KEY

bus = RevokeBus(Settings(secret_key=SECRET_KEY, access_ttl=60 * ACCESS_TOKEN_EXPIRE_MINUTES))


def hashed(password: str) -> str:
    salt = secrets.token_hex(8)
    return f"{salt}${hashlib.scrypt(password.encode(), salt=salt.encode(), n=16, r=8, p=1).hex()}"


def is_password_of(held: str, password: str) -> bool:
    salt, _, digest = held.partition("$")
    given = hashlib.scrypt(password.encode(), salt=salt.encode(), n=16, r=8, p=1).hex()
    return hmac.compare_digest(digest, given)
