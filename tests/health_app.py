"""An application that says how it is, for `test_health`."""

from fastapi import FastAPI

from revokebus import RevokeBus, health_endpoints

app = FastAPI()
bus = RevokeBus.attach(app)
app.include_router(health_endpoints())
