"""fastapi-jwt-auth 0.5.0's interface on today's FastAPI, pydantic and PyJWT.

Its programs run with this import in place of theirs, and, with a `RevokeBus` attached to the
application, see what is revoked through it. What is answered otherwise is listed in the guide.
"""

from revokebus.compat.fastapi_jwt_auth.auth_jwt import AuthJWT

__all__ = ["AuthJWT"]
