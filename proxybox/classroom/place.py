"""Where a classroom is reached while it is open: a laptop joins another network, and gets other addresses there."""

import ssl

import attrs

from proxybox.classroom.addresses import addresses, url, urls
from proxybox.classroom.certificates import Certificate, certificate
from proxybox.classroom.config import LAN, ClassroomConfig

HERE = "127.0.0.1"


class ClassroomAddress:
    """Where a classroom is reached, and its certificate, as it was at the last look.

    config: with the names of a teacher's certificate. addresses: where students open it, best first. context: of TLS;
    connections from now on get the certificate of the last look. Raises CertificateError.
    """

    def __init__(self, config: ClassroomConfig) -> None:
        self.config = config
        self.addresses: tuple[str, ...] = ()
        self.certificate: Certificate | None = None
        self.context: ssl.SSLContext | None = None
        if config.has_tls:
            self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.look()
        if config.tls == "files" and self.certificate is not None:  # students type what it is for
            names = dict.fromkeys((*config.names, *self.certificate.host_names))
            self.config = attrs.evolve(config, names=tuple(names))
            self.look()

    @property
    def teacher(self) -> str:
        """Where the teacher opens it on this machine. A certificate of others is not for that."""
        if self.config.host == LAN and self.config.tls != "files":
            return self._here
        return self.addresses[0]

    @property
    def fingerprint(self) -> str:
        """That of a certificate of our own, which people compare; else empty."""
        return self.certificate.fingerprint if self.certificate is not None and self.config.tls == "self" else ""

    def look(self) -> bool:
        """Looks where it is reached now, and returns whether that has changed. Raises CertificateError."""
        config, before = self.config, (self.addresses, self.certificate)
        found = addresses() if config.host == LAN else (config.host,)
        shown = certificate(config, (*config.names, *found))
        if shown != self.certificate and shown is not None and self.context is not None:
            self.context.load_cert_chain(shown.cert, shown.key)
        self.addresses, self.certificate = urls(config, config.port, found) or (self._here,), shown
        return (self.addresses, self.certificate) != before

    @property
    def _here(self) -> str:
        return url(HERE, self.config.port, tls=self.config.has_tls)
