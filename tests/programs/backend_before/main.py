"""The routes."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import BaseModel

from . import config
from .crud import authenticate, create_user, get_user_by_email, users
from .deps import CurrentUser, get_current_active_superuser
from .security import create_access_token, hashed, is_password_of

app = FastAPI()


class Token(BaseModel):
    access_token: str
    token_type: str = "bearer"


class NewUser(BaseModel):
    email: str
    password: str


class UserPublic(BaseModel):
    id: uuid.UUID
    email: str
    is_active: bool
    is_superuser: bool


class UpdatePassword(BaseModel):
    current_password: str
    new_password: str


@app.post("/login/access-token")
def login_access_token(form_data: Annotated[OAuth2PasswordRequestForm, Depends()]) -> Token:
    user = authenticate(form_data.username, form_data.password)
    if not user:
        raise HTTPException(400, "Incorrect email or password")
    if not user.is_active:
        raise HTTPException(400, "Inactive user")
    expires = timedelta(minutes=config.ACCESS_TOKEN_EXPIRE_MINUTES)
    return Token(access_token=create_access_token(user.id, expires))


@app.post("/login/test-token", response_model=UserPublic)
def test_token(current_user: CurrentUser) -> object:
    return current_user


@app.post("/users/signup", response_model=UserPublic)
def register_user(user_in: NewUser) -> object:
    if get_user_by_email(user_in.email):
        raise HTTPException(400, "The user with this email already exists in the system")
    return create_user(user_in.email, user_in.password)


@app.get("/users/me", response_model=UserPublic)
def read_user_me(current_user: CurrentUser) -> object:
    return current_user


@app.patch("/users/me/password")
def update_password_me(body: UpdatePassword, current_user: CurrentUser) -> str:
    if not is_password_of(current_user.hashed_password, body.current_password):
        raise HTTPException(400, "Incorrect password")
    current_user.hashed_password = hashed(body.new_password)
    return "Password updated successfully"


@app.delete("/users/me")
def delete_user_me(current_user: CurrentUser) -> str:
    del users[current_user.id]
    return "User deleted successfully"


@app.get("/users/", dependencies=[Depends(get_current_active_superuser)])
def read_users() -> list[UserPublic]:
    return [UserPublic.model_validate(each, from_attributes=True) for each in users.values()]


@app.patch("/users/{user_id}", dependencies=[Depends(get_current_active_superuser)])
def update_user(user_id: uuid.UUID, *, is_active: bool) -> str:
    users[user_id].is_active = is_active
    return "User updated successfully"
