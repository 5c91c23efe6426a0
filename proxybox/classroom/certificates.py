"""Certificates for TLS: one that the classroom makes itself, or the teacher's.

The classroom's own certificate is for servers only, and no certificate authority: a browser that trusts it trusts no
other certificate because of that. Browsers warn of it until their user compares the fingerprint and accepts it.
"""

import datetime
import ipaddress
import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import attrs

from proxybox.classroom.config import ClassroomConfig
from proxybox.policies.errors import ProxyboxError
from proxybox.serve.replacing import replace

try:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID
except ModuleNotFoundError as error:
    raise ImportError(f"TLS needs {error.name}: pip install 'proxybox[classroom]'") from error

#: How long our own certificate is valid: browsers accept at most 398 days. One that ends soon is replaced.
_LASTS: Final = datetime.timedelta(days=397)
_SOON: Final = datetime.timedelta(days=7)
#: It is valid from a day earlier: the clocks of others may be behind.
_EARLIER: Final = datetime.timedelta(days=1)
#: The most names that are taken over from the last certificate: a laptop returns to networks that it was in before.
_MOST_NAMES: Final = 32
_FILE_MAX: Final = 1 << 20
#: The names of a classroom for browsers on this computer.
_HERE: Final = ("localhost", "127.0.0.1", "::1")
_FORMS: Final = 'a file in PEM form, which begins with "-----BEGIN"'


class CertificateError(ProxyboxError):
    """A certificate or its key cannot be used."""


@attrs.frozen(kw_only=True)
class Certificate:
    """A certificate for TLS, with its key. names: hosts that it is for. ends: when it expires."""

    cert: str
    key: str
    names: tuple[str, ...]
    fingerprint: str
    ends: datetime.datetime

    @property
    def host_names(self) -> tuple[str, ...]:
        """The names that are not IP addresses and that other computers can resolve, too."""
        return tuple(name for name in self.names if name not in _HERE and isinstance(_general(name), x509.DNSName))


def certificate(config: ClassroomConfig, hosts: Iterable[str]) -> Certificate | None:
    """Returns the certificate of a classroom; None for one without TLS. hosts: its names and addresses.

    Raises CertificateError.
    """
    if config.tls == "none":
        return None
    if config.tls == "files":
        return given_certificate(config.tls_cert, config.tls_key)
    return own_certificate(Path(config.data), hosts)


# --- our own certificate ----------------------------------------------------------------------------------------------


def own_certificate(folder: Path, hosts: Iterable[str]) -> Certificate:
    """Returns the certificate in a folder.

    It is made if there is none, if it ends soon, or if it lacks one of the hosts. Raises CertificateError.
    """
    path = folder / "certificate.pem"
    wanted = tuple(dict.fromkeys((*_HERE, *hosts)))
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        old: tuple[str, ...] = ()
        if path.exists():
            try:
                found = given_certificate(str(path), str(path))
            except CertificateError:  # it has expired, or somebody has changed it: it is made again
                pass
            else:
                if found.ends - _SOON > _now() and {*wanted} <= {*found.names}:
                    return found
                old = found.names
        replace(path, _made(tuple(dict.fromkeys((*wanted, *old)))[: max(_MOST_NAMES, len(wanted))]))
    except OSError as error:
        raise CertificateError(f"{path}: cannot be made: {error.strerror}") from None
    return given_certificate(str(path), str(path))


def _made(names: Sequence[str]) -> bytes:
    """A key and its self-signed certificate (RFC 5280), as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "proxybox classroom")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    begins = _now() - _EARLIER
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectAlternativeName([_general(each) for each in names]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (identifier, False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
    ]
    builder = x509.CertificateBuilder(
        issuer_name=name, subject_name=name, public_key=key.public_key(), serial_number=x509.random_serial_number(),
        not_valid_before=begins, not_valid_after=begins + _LASTS,
    )  # fmt: skip
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, is_critical)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


# --- the teacher's certificates ---------------------------------------------------------------------------------------


def given_certificate(cert: str, key: str) -> Certificate:
    """Returns a certificate from PEM files. cert and key may be the same file.

    cert: the certificate comes first, those of its issuers follow. Raises CertificateError if the files cannot be read,
    do not belong together, or the certificate is not valid now.
    """
    certificates, secret = _read(cert), _read(key)
    try:
        first, *_ = x509.load_pem_x509_certificates(certificates)
        names = _names(first)
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(f"{cert}: there is no certificate in it: want {_FORMS}") from None
    try:
        private = serialization.load_pem_private_key(secret, None)
    except TypeError:
        raise CertificateError(f"{key}: the key has a password: want one without (openssl pkey -in KEY)") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(f"{key}: there is no private key in it: want {_FORMS}") from None
    if private.public_key() != first.public_key():
        raise CertificateError(f"{key}: the key does not belong to the first certificate of {cert}")
    begins, ends = first.not_valid_before_utc, first.not_valid_after_utc
    if not begins <= _now() <= ends:
        raise CertificateError(f"{cert}: the certificate is good from {begins:%Y-%m-%d} to {ends:%Y-%m-%d} only")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key)
    except ssl.SSLError as error:
        raise CertificateError(f"{cert}: TLS does not take the certificate: {error.reason}") from None
    digest = first.fingerprint(hashes.SHA256()).hex(":").upper()
    return Certificate(cert=cert, key=key, names=names, fingerprint=digest, ends=ends)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The hosts that it is for, without those with a wildcard: these cannot be typed as an address."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    own = found.get_values_for_type(x509.DNSName)
    return (*(name for name in own if "*" not in name), *map(str, found.get_values_for_type(x509.IPAddress)))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_FILE_MAX + 1)
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > _FILE_MAX:
        raise CertificateError(f"{path}: larger than 1 MiB: want {_FORMS}")
    return data


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
