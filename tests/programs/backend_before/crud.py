"""The users, in memory where the template has a database."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from .config import FIRST_PASSWORD, FIRST_SUPERUSER
from .security import hashed, is_password_of


@dataclass
class User:
    email: str
    hashed_password: str
    is_active: bool = True
    is_superuser: bool = False
    id: uuid.UUID = field(default_factory=uuid.uuid4)


users: dict[uuid.UUID, User] = {}


def create_user(email: str, password: str, *, is_superuser: bool = False) -> User:
    user = User(email, hashed(password), is_superuser=is_superuser)
    users[user.id] = user
    return user


def get_user_by_email(email: str) -> User | None:
    return next((user for user in users.values() if user.email == email), None)


def authenticate(email: str, password: str) -> User | None:
    user = get_user_by_email(email)
    return user if user and is_password_of(user.hashed_password, password) else None


create_user(FIRST_SUPERUSER, FIRST_PASSWORD, is_superuser=True)
