"""Who calls."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import Depends, HTTPException

from revokebus import AccessToken, require_access

from .crud import User, users

TokenDep = Annotated[AccessToken, Depends(require_access())]


def get_current_user(token: TokenDep) -> User:
    user = users.get(uuid.UUID(token.subject))
    if user is None:
        raise HTTPException(404, "User not found")
    if not user.is_active:
        raise HTTPException(400, "Inactive user")
    return user


CurrentUser = Annotated[User, Depends(get_current_user)]


def get_current_active_superuser(current_user: CurrentUser) -> User:
    if not current_user.is_superuser:
        raise HTTPException(403, "The user doesn't have enough privileges")
    return current_user
