"""The store of internal certificates, and what single servers get from it (config §5)."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509

from jupyterhub.net import make_ssl_context
from jupyterhub.runtime import certificates as runtime_certificates
from jupyterhub.runtime.certificates import TRUST, prepare_internal_tls
from jupyterhub.spawning import certificates, fakes

from .spawner_world import make_record, make_spawner


class Application(SimpleNamespace):
    """The settings and the attributes that `prepare_internal_tls` reads and sets."""

    def __init__(self, location: str, **more: Any) -> None:
        super().__init__(
            internal_certs_location=location,
            recreate_internal_certs=False,
            external_ssl_authorities={},
            subdomain_host="",
            trusted_alt_names=[],
            log=SimpleNamespace(info=lambda *_: None),
        )
        self.__dict__.update(more)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Application:
    app = Application(str(tmp_path_factory.mktemp("store")))
    prepare_internal_tls(app)
    return app


def create(app: Application, name: str, *alt_names: str, include_local: bool = True) -> dict[str, str]:
    return certificates.create(
        app.internal_certs_location, app.internal_trust_bundles, name, list(alt_names), include_local=include_local
    )


def index(app: Application) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(app.internal_certs_location) / "certipy.json").read_text())
    return found


def names_in(path: str) -> list[str]:
    certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def common_names(bundle: str) -> set[str]:
    certificates = x509.load_pem_x509_certificates(Path(bundle).read_bytes())
    return {str(c.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value) for c in certificates}


def test_who_trusts_whom(app: Application) -> None:
    assert {name: common_names(bundle) for name, bundle in app.internal_trust_bundles.items()} == {
        name: set(trusted) for name, trusted in TRUST.items()
    }


def test_a_second_start_finds_everything(app: Application) -> None:
    before = index(app)
    again = Application(app.internal_certs_location)
    prepare_internal_tls(again)
    assert index(again) == before
    assert again.internal_ssl_cert == app.internal_ssl_cert


def test_pairs_that_are_no_longer_good_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another name, soon over, damaged; the authorities stay, so that everybody goes on trusting everybody."""
    app = Application(str(tmp_path))
    prepare_internal_tls(app)
    authority = (tmp_path / "hub-ca/hub-ca.crt").read_bytes()

    def text() -> str:
        return Path(app.internal_ssl_cert).read_text()

    seen = [text()]
    for change in (
        lambda: setattr(app, "trusted_alt_names", ["DNS:hub.example", "IP:::1"]),
        lambda: monkeypatch.setattr(runtime_certificates, "RENEW_BEFORE", timedelta(days=6 * 365)),
        lambda: Path(app.internal_ssl_cert).write_text("half of a certif"),
    ):
        change()
        prepare_internal_tls(app)
        assert text() not in seen
        seen.append(text())
        monkeypatch.undo()
        prepare_internal_tls(app)
        assert text() == seen[-1], "it is good now"
    assert "hub.example" in names_in(app.internal_proxy_certs["proxy-client"]["certfile"])
    assert (tmp_path / "hub-ca/hub-ca.crt").read_bytes() == authority


def test_a_relative_location_is_the_same_for_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers and services run in other directories than the Hub."""
    monkeypatch.chdir(tmp_path)
    app = Application("internal-ssl", trusted_alt_names=["DNS:hub.example"])
    prepare_internal_tls(app)
    files = [app.internal_ssl_key, app.internal_ssl_ca, *create(app, "user-ada").values()]
    files += [file for pair in app.internal_proxy_certs.values() for file in pair.values()]
    assert all(file.startswith(str(tmp_path)) for file in files)
    assert "hub.example" in names_in(app.internal_ssl_cert)
    # All of them are thrown away when that is asked for.
    before = Path(app.internal_ssl_cert).read_text()
    app.recreate_internal_certs = True
    prepare_internal_tls(app)
    assert Path(app.internal_ssl_cert).read_text() != before
    assert not [name for name in index(app) if name.startswith("user-")]


def test_an_authority_from_elsewhere_is_used(app: Application, tmp_path: Path) -> None:
    store = Path(app.internal_certs_location) / "notebooks-ca"
    files = {"key": str(store / "notebooks-ca.key"), "cert": str(store / "notebooks-ca.crt")}
    other = Application(str(tmp_path / "store"), external_ssl_authorities={"notebooks-ca": files})
    prepare_internal_tls(other)
    assert not (tmp_path / "store/notebooks-ca").exists()
    certificate, authority = (
        x509.load_pem_x509_certificate(Path(path).read_bytes())
        for path in (create(other, "user-ada")["certfile"], files["cert"])
    )
    certificate.verify_directly_issued_by(authority)


def test_an_authority_without_its_key_is_named(app: Application, tmp_path: Path) -> None:
    files = {"cert": f"{app.internal_certs_location}/hub-ca/hub-ca.crt"}
    other = Application(str(tmp_path), external_ssl_authorities={"hub-ca": files})
    with pytest.raises(ValueError, match="hub-ca is known without its key and cannot sign hub-internal"):
        prepare_internal_tls(other)


def test_starts_at_the_same_time_lose_nothing(app: Application) -> None:
    """Of threads and of another process: each pair is in the index, and fits."""
    program = (
        "import sys, json\n"
        "from jupyterhub.spawning.certificates import create\n"
        "for number in range(4):\n"
        "    create(sys.argv[1], json.loads(sys.argv[2]), f'user-other{number}', [], include_local=True)\n"
    )
    arguments = [app.internal_certs_location, json.dumps(app.internal_trust_bundles)]
    other = subprocess.Popen([sys.executable, "-c", program, *arguments])
    names = [f"user-{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        pairs = list(threads.map(lambda name: create(app, name), names))
    assert other.wait(60) == 0
    found = index(app)
    assert set(found) >= {*names, *(f"user-other{number}" for number in range(4)), *TRUST}
    assert set(found["notebooks-ca"]["signees"]) >= set(names)
    for pair in pairs:
        assert make_ssl_context(pair["keyfile"], pair["certfile"], cafile=pair["cafile"]) is not None


def test_a_start_replaces_the_former_pair(app: Application) -> None:
    before = create(app, "user-grace")
    text = Path(before["keyfile"]).read_text()
    after = create(app, "user-grace", "DNS:grace.example")
    assert after == before and Path(after["keyfile"]).read_text() != text
    assert names_in(after["certfile"]) == ["localhost", "127.0.0.1", "grace.example"]
    assert names_in(create(app, "user-grace", "IP:10.0.0.1", include_local=False)["certfile"]) == ["10.0.0.1"]


@pytest.mark.parametrize("removed", [False, True])
def test_a_key_is_private_before_anything_is_in_it(app: Application, removed: bool) -> None:
    """Also where an earlier one had been handed over."""
    path = Path(create(app, "user-ada")["keyfile"])
    if removed:
        path.unlink()
    umask = os.umask(0)
    try:
        with certificates.open_store(app.internal_certs_location) as store:
            certificates.keep_key_private(store, "user-ada")
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(umask)


def test_names_that_are_too_long_for_a_certificate(app: Application) -> None:
    """The limit of the standard is 64 bytes; names of users may be longer, and two of them alike up to there."""
    ends = [create(app, f"user-{'ü' * 80}{end}")["certfile"] for end in ("a", "b")]
    assert ends[0] != ends[1] and all(Path(path).is_file() for path in ends)


async def test_each_named_server_has_its_own(app: Application) -> None:
    """Two servers of one user may start together."""
    paths = []
    for name in ("", "gpu"):
        spawner = make_spawner(
            fakes.StartsNothing,
            _record=make_record(name=name),
            internal_ssl=True,
            internal_certs_location=app.internal_certs_location,
            internal_trust_bundles=app.internal_trust_bundles,
        )
        paths.append(await spawner.create_certs())
    assert paths[0]["keyfile"].endswith("/user-ada/user-ada.key")
    assert paths[0]["keyfile"] != paths[1]["keyfile"] and paths[0]["cafile"] == paths[1]["cafile"]


async def test_they_stay_where_they_are_unless_the_spawner_brings_them_elsewhere() -> None:
    """KubeSpawner has no `move_certs` and reads them on the Hub's side."""
    paths = {"keyfile": "/k", "certfile": "/c", "cafile": "/a"}
    assert await make_spawner(fakes.StartsNothing).move_certs(paths) == paths


def test_a_pair_is_handed_over(app: Application, tmp_path: Path) -> None:
    """Whole, private, in place of what was there; the authorities stay in the store."""
    paths = create(app, "user-ada")
    contents = {kind: Path(path).read_text() for kind, path in paths.items()}
    old = tmp_path / ".jupyterhub/jupyterhub-certs/old"
    old.parent.mkdir(parents=True)
    old.touch()
    moved = certificates.hand_over(paths, None, {"HOME": str(tmp_path)})
    assert {kind: Path(path).read_text() for kind, path in moved.items()} == contents
    assert {stat.S_IMODE(Path(path).stat().st_mode) for path in moved.values()} == {0o600}
    assert stat.S_IMODE(old.parent.stat().st_mode) == 0o700 and not old.exists()
    assert [kind for kind, path in paths.items() if Path(path).exists()] == ["cafile"]


def test_a_home_that_cannot_be_written_is_named(app: Application, tmp_path: Path) -> None:
    (tmp_path / ".jupyterhub").write_text("not a directory")
    paths = create(app, "user-ada")
    with pytest.raises(RuntimeError, match=r"could not be handed over.*\.jupyterhub"):
        certificates.hand_over(paths, None, {"HOME": str(tmp_path)})
    assert all(Path(path).exists() for path in paths.values())
