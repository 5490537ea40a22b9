"""Users of an application: they read, refresh, sign out and in, and now and then everywhere.

``make load`` runs it against `load_tests.application`, with a Redis of its own. Against an
application of yours with the same routes::

    locust --locustfile load_tests/locustfile.py --host http://127.0.0.1:8000

Each user knows what he has revoked: a request that passes with a revoked token, or is refused with
a good one, is counted as a failure.
"""

from __future__ import annotations

import uuid
from typing import Any

from locust import FastHttpUser, between, task


class Person(FastHttpUser):
    """Somebody with two devices."""

    wait_time = between(0.1, 1.0)

    def on_start(self) -> None:
        self.name = f"user-{uuid.uuid4()}"
        self.devices = [self.sign_in(), self.sign_in()]

    def sign_in(self) -> dict[str, Any]:
        answer = self.client.post(f"/login/{self.name}", name="/login/{name}")
        pair: dict[str, Any] = answer.json()
        return pair

    def header(self, device: int, kind: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.devices[device][kind]}"}

    def expect_refusal(self, header: dict[str, str]) -> None:
        name = "/profile, revoked"
        with self.client.get("/profile", headers=header, name=name, catch_response=True) as answer:
            if answer.status_code == 401:
                answer.success()
            else:
                answer.failure(f"a revoked token was answered with {answer.status_code}")

    @task(80)
    def read(self) -> None:
        self.client.get("/profile", headers=self.header(0, "access_token"))

    @task(10)
    def refresh(self) -> None:
        answer = self.client.post("/refresh", headers=self.header(0, "refresh_token"))
        if answer.ok:
            self.devices[0] = answer.json()

    @task(5)
    def sign_out_and_in(self) -> None:
        revoked = self.header(1, "access_token")
        self.client.post("/logout", headers=revoked)
        self.expect_refusal(revoked)
        self.devices[1] = self.sign_in()

    @task(1)
    def sign_out_everywhere(self) -> None:
        revoked = [self.header(device, "access_token") for device in (0, 1)]
        self.client.post("/logout-everywhere", headers=revoked[0])
        for each in revoked:
            self.expect_refusal(each)
        self.devices = [self.sign_in(), self.sign_in()]
