"""One process, no Redis: ``REVOKEBUS_SECRET_KEY=... uvicorn examples.memory_app:app``."""

from examples.login_logout import create_app
from revokebus import Settings

app = create_app(Settings(redis_url="memory://"))
