"""A proxy that serves an application below ``/api``, as nginx does with ``location /api/``."""

from __future__ import annotations

import os

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_BEHIND = os.environ["BEHIND"]
_OWN = {"host", "content-length", "connection", "transfer-encoding"}


async def forward(request: Request) -> Response:
    headers = [(name, value) for name, value in request.headers.items() if name not in _OWN]
    headers.append(("host", request.headers["host"]))
    url = f"{_BEHIND}/{request.path_params['rest']}"
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.request(
            request.method,
            url,
            headers=headers,
            params=request.query_params,
            content=await request.body(),
        )
    response = Response(answer.content, answer.status_code)
    for name, value in answer.headers.multi_items():
        if name not in _OWN:
            response.headers.append(name, value)
    return response


app = Starlette(
    routes=[Route("/api/{rest:path}", forward, methods=["GET", "POST", "PUT", "DELETE"])]
)
