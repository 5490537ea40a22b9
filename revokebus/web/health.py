"""Whether this process lives, and whether it should be sent requests: for an orchestrator."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

# FastAPI reads the annotations of a route when it is made.
from starlette.requests import Request  # noqa: TC002

from revokebus.web.guards import bus_of

_NO_STORE = {"Cache-Control": "no-store"}


def health_endpoints(*, live: str = "/livez", ready: str = "/readyz") -> APIRouter:
    """Return a router that says whether the process lives, and whether it is ready.

    **Live** is 200 as long as the event loop answers. It does not depend on Redis: to restart
    every instance would not bring Redis back, and would cost each its copy.

    **Ready** is 200 while tokens can be decided upon: the copy is fresh, or it is stale and
    ``on_stale`` is ``accept``. Where a request would have Redis asked (a copy without room for
    everything; one that is stale or not loaded yet, with ``ask_redis``), it is asked here, too. It
    is 503 otherwise, and once the bus is closing. The keys of outside issuers and predicates of the
    application's own are not looked at. The body says in JSON which ``state`` the copy has; nothing
    of it is secret.

    Args:
        live: Where the first one is.
        ready: Where the second one is.
    """
    router = APIRouter()

    @router.get(live, include_in_schema=False)
    async def livez(response: Response) -> dict[str, str]:
        response.headers.update(_NO_STORE)
        return {"status": "live"}

    @router.get(ready, include_in_schema=False)
    async def readyz(request: Request, response: Response) -> dict[str, Any]:
        bus = bus_of(request)
        is_ready = await bus.can_decide()
        status = bus.status()  # it may have waited for a proof
        response.headers.update(_NO_STORE)
        response.status_code = 200 if is_ready else 503
        return {"status": "ready" if is_ready else "not ready", "state": status.state}

    return router
