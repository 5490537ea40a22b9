"""Any number of processes that share a Redis.

``REVOKEBUS_SECRET_KEY=... REVOKEBUS_REDIS_URL=redis://... uvicorn examples.redis_app:app``
"""

from examples.login_logout import create_app

app = create_app()
