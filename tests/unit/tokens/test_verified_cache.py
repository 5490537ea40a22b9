from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from revokebus.testing import ManualClock
from revokebus.tokens.claims import AccessToken
from revokebus.tokens.verified_cache import Verified, VerifiedCache

if TYPE_CHECKING:
    from revokebus.tokens.claims import RefreshToken


def a_token(clock: ManualClock, life: float = 60) -> AccessToken:
    now = clock.wall()
    return AccessToken(
        subject="a",
        jti=secrets.token_hex(4),
        session_id="s",
        issued_at=now,
        expires_at=now + life,
        not_before=0.0,
        scopes=frozenset(),
        auth_time=None,
        fresh=False,
        issuer="",
        since=now,
        verified_claims={},  # type: ignore[arg-type]  # nobody reads them here
    )


def remember(cache: VerifiedCache, token: AccessToken | RefreshToken, name: str) -> bytes:
    digest = cache.digest_of(name.encode())
    cache.add(Verified(token, digest, 0.0), cache.times_cleared)
    return digest


steps = st.one_of(
    st.tuples(st.just("add"), st.sampled_from("abcdefgh"), st.integers(0, 30)),
    st.tuples(st.just("touch"), st.sampled_from("abcdefgh"), st.just(0)),
    st.tuples(st.just("advance"), st.just(""), st.integers(1, 20)),
    st.tuples(st.just("clear"), st.just(""), st.just(0)),
)


@given(st.lists(steps, max_size=60), st.integers(0, 4))
@example([("add", "a", 1), ("add", "a", 0)], 1)
def test_it_never_grows_beyond_its_size(history: list[tuple[str, str, int]], size: int) -> None:
    """A process that runs for months would fill its memory with tokens."""
    clock = ManualClock()
    cache = VerifiedCache(size, b"Bearer ", clock)
    for step, name, amount in history:
        if step == "add":
            remember(cache, a_token(clock, amount), name)
        elif step == "touch" and (found := cache.by_digest.get(cache.digest_of(name.encode()))):
            cache.touch(found)
        elif step == "advance":
            clock.advance(amount)
        elif step == "clear":
            cache.clear()
        assert len(cache) <= size
        assert set(cache._cache) <= set(cache.by_digest)
        assert len(cache._cache) == len(cache.by_digest)


def test_what_is_in_use_stays(clock: ManualClock) -> None:
    """One client that signs in again and again would have everybody's tokens verified anew."""
    cache = VerifiedCache(2, b"", clock)
    used, other = remember(cache, a_token(clock), "used"), remember(cache, a_token(clock), "other")
    cache.touch(cache.by_digest[used])
    remember(cache, a_token(clock), "new")
    assert used in cache.by_digest
    assert other not in cache.by_digest


def test_what_was_verified_by_keys_that_are_gone_is_not_remembered(clock: ManualClock) -> None:
    """A token of a leaked key would go on working, if a thread was verifying it just then."""
    cache = VerifiedCache(2, b"", clock)
    before = cache.times_cleared
    cache.clear()
    cache.add(Verified(a_token(clock), b"digest", 0.0), before)
    assert len(cache) == 0


def test_the_token_is_not_kept(clock: ManualClock) -> None:
    """Whoever reads the memory of a process could use the tokens of all its users."""
    cache = VerifiedCache(2, b"Bearer ", clock)
    remember(cache, a_token(clock), "eyJ.the-token.itself")
    assert b"the-token" not in b"".join(cache.by_digest)
    assert all(len(digest) == 64 for digest in cache.by_digest)
