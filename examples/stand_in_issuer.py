"""An issuer of tokens on this machine, to try ``examples.resource_server`` with.

``python -m examples.stand_in_issuer`` prints the variables to set and two tokens, and publishes its
keys until it is ended with Ctrl+C. It needs the extra ``crypto``.
"""

from __future__ import annotations

import contextlib
import threading

from revokebus.testing.outside_issuer import StandInIssuer

AUDIENCE = "https://api.example"


def main() -> None:
    with StandInIssuer() as issuer:
        print(f"export REVOKEBUS_JWKS_URL={issuer.jwks_url}")
        print(f"export REVOKEBUS_ISSUER={issuer.issuer}")
        print(f"export REVOKEBUS_AUDIENCE={AUDIENCE}")
        print(f"export ALICE={issuer.sign('auth0|alice', AUDIENCE, scope='read:items')}")
        print(f"export ADMIN={issuer.sign('auth0|admin', AUDIENCE, scope='admin')}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
