"""What the containers of this folder serve: the example with health endpoints."""

from examples.login_logout import create_app
from revokebus import health_endpoints

app = create_app()
app.include_router(health_endpoints())
