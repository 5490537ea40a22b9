from __future__ import annotations

import pytest
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from revokebus.connection.loss import noticing_loss


@pytest.mark.parametrize("error", [AttributeError("'NoneType' has no '_add_writer'"), TypeError()])
def test_what_a_lost_transport_raises_is_a_lost_connection(error: Exception) -> None:
    """A revocation would raise what only a mistake raises, and not be tried again."""
    lost = pytest.raises(RedisConnectionError, match="lost while it was written to")
    with lost as raised, noticing_loss():
        raise error
    assert raised.value.__cause__ is error
    assert repr(error) in str(raised.value)  # it may be a mistake of someone else all the same


def test_another_error_stays_what_it_is() -> None:
    """A wrong password would be tried again and again, as if it were the network."""
    with pytest.raises(AuthenticationError), noticing_loss():
        raise AuthenticationError
