"""Tokens: made, hashed, compared."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub.core import secrets
from jupyterhub.core.errors import InvalidRequest

VECTORS = [
    (
        1,
        "8fd73693ad84ab8fdd92c3f6b56cb124ce057aa880a71abd04aaa828b24d1f7a"
        "3f6d4fcdb4fd71372488e3f2a78f14c194195cb7aa4fc2a49ad60ed6c8ddb7ed",
    ),
    (
        16384,
        "79742e056674bf92cfcdff55fbcba369407d938e671b7250bd7ecd168d4ac071"
        "3c2a4db806baca1e426ed96090fcfe9acc5a53c75261571ff5ebadfbb1a275f0",
    ),
]


@pytest.mark.parametrize(("rounds", "digest"), VECTORS)
def test_hashes_are_those_in_existing_databases(rounds: int, digest: str) -> None:
    hashed = secrets.hash_token("abcd1234", rounds=rounds, salt="00112233")
    assert hashed == f"sha512:{rounds}:00112233:{digest}"
    assert secrets.compare_token(hashed, "abcd1234")
    assert not secrets.compare_token(hashed, "abcd1235")


@given(st.text(max_size=64), st.integers(0, 3000))
def test_a_token_matches_its_own_hash_only(token: str, rounds: int) -> None:
    hashed = secrets.hash_token(token, rounds=rounds)
    assert secrets.compare_token(hashed, token)
    if rounds:
        assert not secrets.compare_token(hashed, token[:-1] + "!?")


def test_old_rows_are_honoured_as_written() -> None:
    digest = hashlib.sha256(b"0011" + b"old-token" * 3).hexdigest()
    assert secrets.compare_token(f"sha256:3:0011:{digest}", "old-token")


@pytest.mark.parametrize(
    "hashed", ["", "x", "sha512:1:00", "rot13:1:00:ff", "sha512:many:00:ff", "sha512:1:é:ff"]
)
def test_a_hash_that_cannot_be_read_matches_nothing(hashed: str) -> None:
    assert not secrets.compare_token(hashed, "abcd1234")


def test_overlong_candidates_never_match() -> None:
    long = "x" * 65
    assert not secrets.compare_token(secrets.hash_token(long), long)


@pytest.mark.parametrize(
    ("make", "form"),
    [
        (secrets.new_token, r"[0-9a-f]{32}"),
        (secrets.new_code, r"[A-Za-z0-9]{30}"),
        (secrets.new_share_code, r"[A-Za-z0-9_-]{43}"),
        (lambda: secrets.hash_token("x").split(":")[2], r"[0-9a-f]{16}"),
    ],
)
def test_new_secrets_have_their_form_and_differ(make: object, form: str) -> None:
    made = {make() for _ in range(50)}  # type: ignore[operator]
    assert len(made) == 50
    assert all(re.fullmatch(form, each) for each in made)


@pytest.mark.parametrize(("length", "fits"), [(7, False), (8, True), (64, True), (65, False)])
def test_lengths_that_can_be_stored(length: int, fits: bool) -> None:
    if fits:
        secrets.check_token_text("x" * length)
    else:
        with pytest.raises(InvalidRequest, match=str(length)):
            secrets.check_token_text("x" * length)


def test_small_helpers() -> None:
    assert secrets.token_prefix("abcd1234") == "abcd"
    assert secrets.constant_time_equal("é", "é".encode())
    assert not secrets.constant_time_equal("a", "b")
    assert secrets.fingerprint("x") == secrets.fingerprint("x") != secrets.fingerprint("y")
