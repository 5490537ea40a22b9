from __future__ import annotations

import secrets

from hypothesis import given
from hypothesis import strategies as st

from revokebus.testing import ManualClock
from revokebus.tokens.claims import AccessToken
from revokebus.tokens.verified_cache import Verified, VerifiedCache


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


def verified(cache: VerifiedCache, name: str, sealed: bytes) -> Verified:
    return Verified(a_token(ManualClock()), cache.digest_of(name.encode()), 0.0, sealed)


def use(cache: VerifiedCache, name: str) -> None:
    """Do what the verifier and the fast path do when a token comes."""
    digest = cache.digest_of(name.encode())
    if (ready := cache.by_digest.get(digest)) is not None:
        cache.touch(ready)
    elif (sealed := cache.sealed(digest)) is not None:
        cache.keep_ready(verified(cache, name, sealed), cache.times_cleared)
    else:
        cache.add(verified(cache, name, b"\0" * 2), cache.times_cleared)


def is_known(cache: VerifiedCache, name: str) -> bool:
    digest = cache.digest_of(name.encode())
    return digest in cache.by_digest or cache.sealed(digest) is not None


steps = st.one_of(
    st.tuples(st.just("use"), st.sampled_from("abcdefgh")),
    st.tuples(st.just("clear"), st.just("")),
)


@given(st.lists(steps, max_size=60), st.sampled_from([0, 1_000, 7_000, 20_000]))
def test_it_never_grows_beyond_its_size(history: list[tuple[str, str]], size: int) -> None:
    """A process that runs for months would fill its memory with tokens."""
    cache = VerifiedCache(size, b"Bearer ")
    for step, name in history:
        if step == "use":
            use(cache, name)
        else:
            cache.clear()
        assert cache.taken <= size
        assert len(cache.tokens()) == len(cache.by_digest)
        assert (cache.taken == 0) == (len(cache) == 0)


def test_a_crowd_that_comes_once_displaces_nobody_who_comes_often() -> None:
    """One client that signs in again and again would have everybody's tokens verified anew."""
    cache = VerifiedCache(1_000_000, b"")
    regulars = [f"regular {number}" for number in range(20)]
    for _ in range(3):
        for name in regulars:
            use(cache, name)
    for number in range(10_000):
        use(cache, f"once {number}")
    assert all(is_known(cache, name) for name in regulars)


def test_what_is_ready_and_not_used_makes_room() -> None:
    """Users of the morning would keep those of the evening from the quick way."""
    cache = VerifiedCache(200_000, b"")
    for number in range(100):
        for _ in range(3):
            use(cache, f"user {number}")
    assert cache.digest_of(b"user 99") in cache.by_digest
    assert cache.digest_of(b"user 0") not in cache.by_digest
    assert is_known(cache, "user 0")


def test_what_was_verified_by_keys_that_are_gone_is_not_remembered() -> None:
    """A token of a leaked key would go on working, if a thread was verifying it just then."""
    cache = VerifiedCache(100_000, b"")
    before = cache.times_cleared
    cache.clear()
    cache.add(verified(cache, "token", b"claims"), before)
    cache.keep_ready(verified(cache, "token", b"claims"), before)
    assert len(cache) == 0


def test_the_token_is_not_kept() -> None:
    """Whoever reads the memory of a process could use the tokens of all its users."""
    cache = VerifiedCache(100_000, b"Bearer ")
    for _ in range(2):
        use(cache, "eyJ.the-token.itself")
    assert b"the-token" not in b"".join([*cache.by_digest, *cache._sealed])
    assert all(len(digest) == 64 for digest in cache.by_digest)
