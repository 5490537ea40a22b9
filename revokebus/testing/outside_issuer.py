"""An outside issuer of tokens that stands in for Auth0, Keycloak, Entra and their like."""

from __future__ import annotations

import http.server
import json
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from revokebus.testing.process import LOOPBACK

if TYPE_CHECKING:
    from types import TracebackType

_RSA_EXPONENT, _RSA_BITS = 65537, 2048


class StandInIssuer:
    """Signs tokens and publishes its keys over HTTP, on a free port of this machine.

    Use it as a context manager.

    Attributes:
        document: What is published; change it to publish something else.
        status: The HTTP status of the answer.
        headers: Further headers of the answer.
        fetches: How often it was fetched.
        may_answer: Cleared, it keeps whoever fetches waiting.
    """

    def __init__(self) -> None:
        self.document: dict[str, Any] = {"keys": []}
        self.status = 200
        self.headers: dict[str, str] = {}
        self.fetches = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._keys: dict[str, rsa.RSAPrivateKey] = {}
        self._server = http.server.ThreadingHTTPServer((LOOPBACK, 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.add_key("first")

    @property
    def issuer(self) -> str:
        """The ``iss`` of its tokens."""
        return f"http://{LOOPBACK}:{self._server.server_address[1]}/"

    @property
    def jwks_url(self) -> str:
        """Where its keys are."""
        return f"{self.issuer}.well-known/jwks.json"

    def add_key(self, kid: str, *, publish: bool = True) -> None:
        """Make a key that `sign` can use from now on."""
        key = self._keys[kid] = rsa.generate_private_key(_RSA_EXPONENT, _RSA_BITS)
        if publish:
            self.publish(kid, key)

    def publish(self, kid: str, key: rsa.RSAPrivateKey | None = None) -> None:
        """Publish the public part of a key."""
        public = (key or self._keys[kid]).public_key()
        jwk = jwt.get_algorithm_by_name("RS256").to_jwk(public, as_dict=True)
        entry = {**jwk, "kid": kid, "use": "sig", "alg": "RS256"}
        self.document = {"keys": [*self.document["keys"], entry]}

    def withdraw(self, kid: str) -> None:
        """Publish a key no longer."""
        self.document = {"keys": [each for each in self.document["keys"] if each["kid"] != kid]}

    def sign(
        self,
        subject: str,
        audience: Any,
        *,
        kid: str = "first",
        header_typ: str = "JWT",
        **claims: Any,
    ) -> str:
        """Return an access token that lives for an hour.

        Args:
            subject: The ``sub`` claim.
            audience: The ``aud`` claim.
            kid: The key; the header names it.
            header_typ: The header's ``typ``.
            claims: Further claims; None leaves one out.
        """
        now = int(time.time())
        whole = {
            "iss": self.issuer,
            "sub": subject,
            "aud": audience,
            "iat": now,
            "exp": now + 3600,
            "jti": secrets.token_urlsafe(16),
            **claims,
        }
        present = {name: value for name, value in whole.items() if value is not None}
        headers = {"kid": kid, "typ": header_typ}
        return jwt.encode(present, self._keys[kid], algorithm="RS256", headers=headers)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches += 1
                issuer.may_answer.wait(10)
                body = json.dumps(issuer.document).encode()
                self.send_response(issuer.status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
