"""Encryption of what log-ins bring along (auth_state): CryptKeeper, encrypt, decrypt (config §8.5)."""

from __future__ import annotations

import base64
import json
import os
import re
from binascii import a2b_hex
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from traitlets import Any as AnyTrait
from traitlets import Integer, List, default, observe, validate
from traitlets.config import SingletonConfigurable

from .aio import maybe_future

if TYPE_CHECKING:
    from cryptography.fernet import InvalidToken, MultiFernet

__all__ = [
    "CryptKeeper",
    "CryptographyUnavailable",
    "EncryptionUnavailable",
    "InvalidToken",
    "NoEncryptionKeys",
    "decrypt",
    "encrypt",
]

KEY_ENV = "JUPYTERHUB_CRYPT_KEY"


def __getattr__(name: str) -> Any:
    # The library is heavy, and most sites keep no state: it is loaded when somebody asks.
    if name == "InvalidToken":
        from cryptography.fernet import InvalidToken

        return InvalidToken
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class EncryptionUnavailable(Exception):
    """Nothing can be encrypted."""


class CryptographyUnavailable(EncryptionUnavailable):
    """The package that encrypts is missing."""

    def __str__(self) -> str:
        return "The package 'cryptography' is needed to keep auth_state; install it"


class NoEncryptionKeys(EncryptionUnavailable):
    """There is no key."""

    def __str__(self) -> str:
        return (
            f"There is no key to encrypt auth_state with. Set the environment variable {KEY_ENV} "
            "or CryptKeeper.keys, for example to the output of `openssl rand -hex 32`"
        )


def _read_key(key: str | bytes) -> bytes:
    """The 32 bytes meant by a key: themselves, 64 hex digits or 44 characters of base64. Raises ValueError."""
    if isinstance(key, str):
        if len(key) == 64 and re.fullmatch(r"[0-9a-fA-F]{64}", key):
            return a2b_hex(key)
        try:
            key = key.encode("ascii")
        except UnicodeEncodeError:
            raise ValueError("an encryption key has characters outside ASCII") from None
    elif len(key) == 64 and re.fullmatch(rb"[0-9a-fA-F]{64}", key):
        return a2b_hex(key)
    if len(key) == 44:
        try:
            key = base64.b64decode(key.translate(bytes.maketrans(b"-_", b"+/")), validate=True)
        except ValueError:
            raise ValueError("an encryption key of 44 characters is not base64") from None
    if len(key) != 32:
        # The key itself never appears in a message.
        raise ValueError(
            f"an encryption key must be 32 bytes, as they are, as 64 hex digits or in base64; one has {len(key)}"
        )
    return key


class CryptKeeper(SingletonConfigurable):
    """Holder of the encryption keys. Whoever owns the configuration creates the instance with it."""

    n_threads = Integer(max(os.cpu_count() or 1, 1), help="Threads that encrypt and decrypt.").tag(config=True)

    keys: Any = List(
        help=f"""Keys for auth_state: the first encrypts, each of them decrypts, so that a new one is put in front.

        The default is the environment variable {KEY_ENV}, keys separated by ';'.
        """
    ).tag(config=True)

    fernet = AnyTrait(help="The encrypting object; None without keys.")

    _executor: ThreadPoolExecutor | None = None

    @default("keys")
    def _keys_default(self) -> list[bytes]:
        return [_read_key(part) for part in os.environ.get(KEY_ENV, "").split(";") if part.strip()]

    @validate("keys")
    def _validate_keys(self, proposal: Any) -> list[bytes]:
        return [_read_key(key) for key in proposal.value]

    @observe("keys")
    def _keys_changed(self, change: Any) -> None:
        self.fernet = self._make_fernet()

    @default("fernet")
    def _fernet_default(self) -> MultiFernet | None:
        return self._make_fernet()

    def _make_fernet(self) -> MultiFernet | None:
        if not self.keys:
            return None
        try:
            from cryptography.fernet import Fernet, MultiFernet
        except ImportError:
            return None
        return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in self.keys])

    def check_available(self) -> None:
        """Raise EncryptionUnavailable (the package or the keys are missing) when nothing can be encrypted."""
        try:
            import cryptography  # noqa: F401
        except ImportError:
            raise CryptographyUnavailable from None
        if not self.keys:
            raise NoEncryptionKeys

    def _encrypt(self, data: Any) -> bytes:
        """Encrypt a JSON value; blocks."""
        self.check_available()
        token: bytes = self.fernet.encrypt(json.dumps(data).encode())
        return token

    def _decrypt(self, encrypted: bytes) -> Any:
        """The value that `_encrypt` was given; blocks. Raises InvalidToken."""
        self.check_available()
        return json.loads(self.fernet.decrypt(encrypted).decode())

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The threads that encrypt."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.n_threads, thread_name_prefix="crypt")
        return self._executor

    def encrypt(self, data: Any) -> Any:
        """Encrypt a JSON value on a thread; awaitable of bytes."""
        return maybe_future(self.executor.submit(self._encrypt, data))

    def decrypt(self, encrypted: bytes) -> Any:
        """Decrypt on a thread; awaitable of the value."""
        return maybe_future(self.executor.submit(self._decrypt, encrypted))


def encrypt(data: Any) -> Any:
    """Encrypt a JSON value; awaitable of bytes. Raises EncryptionUnavailable."""
    return CryptKeeper.instance().encrypt(data)


def decrypt(data: bytes) -> Any:
    """Decrypt; awaitable of the value. Raises EncryptionUnavailable or InvalidToken."""
    return CryptKeeper.instance().decrypt(data)
