"""Settings."""

from __future__ import annotations

import os

SECRET_KEY = os.environ["BACKEND_SECRET_KEY"]
ACCESS_TOKEN_EXPIRE_MINUTES = 60 * 24 * 8
RESET_TOKEN_EXPIRE_HOURS = 48
FIRST_SUPERUSER, FIRST_PASSWORD = "admin@example.com", "changethis"
