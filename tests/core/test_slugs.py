"""Readable, safe names, against a table of values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub import slugs as face
from jupyterhub.core import slugs
from jupyterhub.core.slugs import is_valid_display_name, is_valid_safe_slug, is_valid_simple_name, safe_slug

TABLE = [
    ("abc1", "abc1", "abc1", True),
    ("a-b", "a-b-d44362d6", "a-b", True),
    ("a--b", "a-b-90827a2e", "a-b", False),
    ("Abc", "abc-06d90109", "abc", False),
    ("1abc", "x-1abc-57cb980e", "x-1abc", False),
    ("-abc", "abc-649d85fc", "abc", False),
    ("user@example.com", "user-example-com-b4c9a289", "user-example-com", False),
    ("ünïcode", "unicode-b8be8967", "unicode", False),
    ("½", "x-1-2-83895be7", "x-1-2", False),
    ("日本語", "x-77710aed", "x", False),
    ("ß", "x-cd3a7e92", "x", False),
    ("İstanbul", "istanbul-24ec8f72", "istanbul", False),
    ("a" * 30, "a" * 30, "a" * 30, True),
    ("a" * 31, "a" * 21 + "-61c60b48", "a" * 30, False),
    ("_", "x-d2e2adf7", "x", False),
]


@pytest.mark.parametrize(("name", "with_hash", "without_hash", "valid"), TABLE)
def test_slugs_are_as_listed(name: str, with_hash: str, without_hash: str, valid: bool) -> None:
    assert safe_slug(name) == with_hash
    assert safe_slug(name, avoid_collisions=False) == without_hash
    assert is_valid_safe_slug(name) is valid


@pytest.mark.parametrize(("length", "slug"), [(10, "f-fbc1a9f8"), (12, "foo-fbc1a9f8")])
def test_short_slugs(length: int, slug: str) -> None:
    assert safe_slug("foo bar", max_length=length) == slug


def test_no_room_or_no_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="10 characters"):
        safe_slug("foo bar", max_length=9)
    with pytest.raises(ValueError, match="empty"):
        safe_slug("")


@given(st.text(min_size=1), st.integers(10, 60), st.booleans())
def test_every_slug_is_safe(name: str, length: int, avoid: bool) -> None:
    assert is_valid_safe_slug(safe_slug(name, avoid, length), length)


@pytest.mark.parametrize(
    ("name", "valid"), [("a", True), ("a1", True), ("a-b", False), ("1a", False), ("", False), ("a\n", False)]
)
def test_simple_names(name: str, valid: bool) -> None:
    assert is_valid_simple_name(name) is valid


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("日本 語", True),
        ("é", True),
        ("e\u0301", True),
        ("😀", True),
        ("x" * 255, True),
        ("a (b) + 1€", True),
        (" a", False),
        ("a ", False),
        ("a  b", False),
        ("a\u00a0b", False),
        ("a\tb", False),
        ("", False),
        ("x" * 256, False),
        ("\u200b", False),
        ("a\u3000b", False),
        ("\ud800", False),
    ],
)
def test_display_names(name: str, valid: bool) -> None:
    assert is_valid_display_name(name) is valid


def test_the_public_module_hands_out_the_same_functions() -> None:
    for name in face.__all__:
        assert getattr(face, name) is getattr(slugs, name)
