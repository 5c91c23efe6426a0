"""Certificates: the classroom's own, and a teacher's."""

import datetime
import hashlib
import os
import socket
import ssl
import threading
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="the extra classroom is not installed")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxybox.classroom import certificates
from proxybox.classroom.certificates import CertificateError, certificate, given_certificate, own_certificate
from proxybox.classroom.config import ClassroomConfig


@pytest.fixture
def own(tmp_path: Path) -> certificates.Certificate:
    return own_certificate(tmp_path, ["192.168.1.4", "class.example"])


def loaded(found: certificates.Certificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(found.cert).read_bytes())


def handshake(found: certificates.Certificate, host: str) -> ssl.SSLSocket:
    """Connects a client that trusts only this certificate to a host of this name; Python checks the certificate."""
    ours, theirs = socket.socketpair()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(found.cert, found.key)
    client = ssl.create_default_context(cafile=found.cert)
    client.verify_flags |= ssl.VERIFY_X509_STRICT

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as peer:
                peer.recv(1)
        except (ssl.SSLError, OSError):
            theirs.close()  # the client does not trust it

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=host) as peer:
            peer.sendall(b"x")
            return peer
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("host", ["192.168.1.4", "class.example", "localhost", "127.0.0.1", "::1"])
def test_our_own_is_good_for_each_host(own: certificates.Certificate, host: str) -> None:
    handshake(own, host)


def test_what_students_may_be_told_of_it(own: certificates.Certificate) -> None:
    """Addresses are those of this machine now; localhost is another machine for each student."""
    assert own.host_names == ("class.example",)


def test_our_own_is_good_for_no_other_host(own: certificates.Certificate) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for 'evil\.example'"):
        handshake(own, "evil.example")


def test_our_own_is_no_authority_and_lasts_as_long_as_browsers_take(own: certificates.Certificate) -> None:
    """Importing it makes no other certificate trusted."""
    made = loaded(own)
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert made.not_valid_after_utc - made.not_valid_before_utc <= datetime.timedelta(days=398)
    assert isinstance(made.public_key(), ec.EllipticCurvePublicKey)


def test_the_fingerprint_is_that_which_browsers_show(own: certificates.Certificate) -> None:
    der = loaded(own).public_bytes(serialization.Encoding.DER)
    assert own.fingerprint.replace(":", "").lower() == hashlib.sha256(der).hexdigest()
    assert len(own.fingerprint) == 95


def test_the_key_is_of_this_user_alone(own: certificates.Certificate) -> None:
    assert os.stat(own.key).st_mode & 0o777 == 0o600


def test_it_stays_the_same_in_a_network_that_it_has_seen(tmp_path: Path, own: certificates.Certificate) -> None:
    assert own_certificate(tmp_path, ["192.168.1.4"]) == own
    moved = own_certificate(tmp_path, ["10.0.0.7"])
    assert moved.fingerprint != own.fingerprint
    assert {"10.0.0.7", "192.168.1.4", "class.example"} <= {*moved.names}
    assert own_certificate(tmp_path, ["192.168.1.4"]) == moved


def test_the_names_of_former_networks_do_not_grow_without_end(tmp_path: Path) -> None:
    for number in range(8):
        last = own_certificate(tmp_path, [f"10.0.{number}.{part}" for part in range(8)])
    assert len(last.names) == 32
    assert {f"10.0.7.{part}" for part in range(8)} <= {*last.names}


def test_it_is_made_anew_before_it_ends(
    tmp_path: Path, own: certificates.Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = own.ends - datetime.timedelta(days=6)
    monkeypatch.setattr(certificates, "_now", lambda: later)
    fresh = own_certificate(tmp_path, ["192.168.1.4"])
    assert fresh.fingerprint != own.fingerprint
    assert fresh.ends > own.ends


def test_what_somebody_has_damaged_is_made_anew(tmp_path: Path, own: certificates.Certificate) -> None:
    Path(own.cert).write_text("nonsense")
    assert own_certificate(tmp_path, ["192.168.1.4"]).fingerprint != own.fingerprint


def test_a_classroom_has_what_it_is_told(tmp_path: Path, own: certificates.Certificate) -> None:
    assert certificate(ClassroomConfig(data=str(tmp_path)), ["192.168.1.4"]) is None
    assert certificate(ClassroomConfig(data=str(tmp_path), tls="self"), ["192.168.1.4"]) == own
    given = ClassroomConfig(data=str(tmp_path), tls="files", tls_cert=own.cert, tls_key=own.key)
    assert certificate(given, ["10.0.0.1"]) == own


# --- those that a teacher has -----------------------------------------------------------------------------------------


def key_file(path: Path, encryption: serialization.KeySerializationEncryption | None = None) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    encryption = encryption or serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    return str(path)


def test_a_key_of_another_certificate(tmp_path: Path, own: certificates.Certificate) -> None:
    with pytest.raises(CertificateError, match=r"other\.pem: the key does not belong to the first certificate of"):
        given_certificate(own.cert, key_file(tmp_path / "other.pem"))


def test_a_key_with_a_password(tmp_path: Path, own: certificates.Certificate) -> None:
    locked = key_file(tmp_path / "locked.pem", serialization.BestAvailableEncryption(b"secret"))
    with pytest.raises(CertificateError, match="the key has a password"):
        given_certificate(own.cert, locked)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\xff" * 100, b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_files_that_hold_something_else(tmp_path: Path, own: certificates.Certificate, data: bytes) -> None:
    path = tmp_path / "other.pem"
    path.write_bytes(data)
    with pytest.raises(CertificateError, match=r"other\.pem: there is no certificate in it"):
        given_certificate(str(path), own.key)
    with pytest.raises(CertificateError, match=r"other\.pem: there is no private key in it"):
        given_certificate(own.cert, str(path))


def test_files_that_are_not_there_or_far_too_large(tmp_path: Path, own: certificates.Certificate) -> None:
    with pytest.raises(CertificateError, match="cannot be read: No such file"):
        given_certificate(str(tmp_path / "missing"), own.key)
    large = tmp_path / "large"
    with open(large, "wb") as file:
        file.truncate(2 << 20)
    with pytest.raises(CertificateError, match="larger than 1 MiB"):
        given_certificate(str(large), own.key)


def test_one_that_is_not_good_now(own: certificates.Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    for now in (own.ends + datetime.timedelta(seconds=1), own.ends - datetime.timedelta(days=400)):
        monkeypatch.setattr(certificates, "_now", lambda now=now: now)
        with pytest.raises(CertificateError, match=r"the certificate is good from \d{4}-\d\d-\d\d to \d{4}"):
            given_certificate(own.cert, own.key)


def test_one_of_a_wildcard_is_for_no_name_that_can_be_typed(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "school")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("*.school.example"), x509.DNSName("class.school.example")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "both.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    assert given_certificate(str(path), str(path)).names == ("class.school.example",)
