"""The addresses of an open classroom: a laptop that joins another network gets other addresses."""

import ssl

import attrs

from proxybox.classroom.addresses import addresses, url, urls
from proxybox.classroom.certificates import Certificate, certificate
from proxybox.classroom.config import LAN, ClassroomConfig

HERE = "127.0.0.1"


class ClassroomAddress:
    """The addresses of a classroom, and its certificate, as of the last check.

    config: with the names of a teacher's certificate. addresses: for students, best first. context: of TLS; new
    connections get the certificate of the last check. Raises CertificateError.
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
        if config.tls == "files" and self.certificate is not None:  # students type the names of the certificate
            names = dict.fromkeys((*config.names, *self.certificate.host_names))
            self.config = attrs.evolve(config, names=tuple(names))
            self.look()

    @property
    def teacher(self) -> str:
        """The address for the teacher on this machine. A teacher's certificate is not for localhost."""
        if self.config.host == LAN and self.config.tls != "files":
            return self._here
        return self.addresses[0]

    @property
    def fingerprint(self) -> str:
        """The fingerprint of our own certificate, which people compare; otherwise empty."""
        return self.certificate.fingerprint if self.certificate is not None and self.config.tls == "self" else ""

    def look(self) -> bool:
        """Finds addresses and certificate again, and returns whether they have changed. Raises CertificateError."""
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
