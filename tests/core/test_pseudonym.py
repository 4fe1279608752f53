"""Names of users: the same for the same key, and nobody else's guess."""

from __future__ import annotations

from hashlib import blake2b, sha256

from hypothesis import given
from hypothesis import strategies as st

from stream_app.core.pseudonym import Pseudonyms

KEY = b"a key of 32 characters or more.."
users = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(users, users)
def test_a_user_has_one_name_and_two_users_have_two(one: str, other: str) -> None:
    names = Pseudonyms(KEY)
    assert names.of(one) == Pseudonyms(KEY).of(one)
    assert (names.of(one) == names.of(other)) == (one == other)


@given(users)
def test_without_the_key_the_name_cannot_be_made(user: str) -> None:
    name = Pseudonyms(KEY).of(user)
    assert name != Pseudonyms(KEY + b"!").of(user)
    for plain in (blake2b(user.encode(), digest_size=16), sha256(user.encode())):
        assert plain.hexdigest()[:32] not in name


def test_the_name_of_a_user_stays_the_same_over_versions() -> None:
    """Else what others keep under it is lost."""
    assert Pseudonyms(KEY).of("u17") == "p-f380fda14b36609ab3a23b2643b01ffa"
