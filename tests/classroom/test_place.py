"""The addresses and the certificate of a classroom, in this network and in the next one."""

import asyncio
import hashlib
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")
pytest.importorskip("cryptography", reason="the extra classroom is not installed")

from proxybox.classroom import place as module
from proxybox.classroom import running
from proxybox.classroom.certificates import CertificateError, own_certificate
from proxybox.classroom.config import ClassroomConfig
from proxybox.classroom.place import ClassroomAddress


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of this machine, as the test sets them."""
    found = ["192.168.1.4"]
    monkeypatch.setattr(module, "addresses", lambda: tuple(found))
    return found


def test_another_network_is_another_address_and_another_certificate(tmp_path: Path, network: list[str]) -> None:
    place = ClassroomAddress(ClassroomConfig(host="lan", tls="self", data=str(tmp_path)))
    first = place.fingerprint
    assert (place.addresses, place.look()) == (("https://192.168.1.4:8080",), False)
    network[:] = ["10.0.0.7", "fd00::2"]
    assert place.look()
    assert place.addresses == ("https://10.0.0.7:8080", "https://[fd00::2]:8080")
    assert place.fingerprint != first
    assert served(place) == place.fingerprint
    assert place.teacher == "https://127.0.0.1:8080"


def served(place: ClassroomAddress) -> str:
    """Returns the fingerprint of the certificate that a client gets."""
    server, client = ssl.MemoryBIO(), ssl.MemoryBIO()
    assert place.context is not None
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    ends = [place.context.wrap_bio(server, client, server_side=True), trust.wrap_bio(client, server)]
    for end in (1, 0, 1):
        try:
            ends[end].do_handshake()
        except ssl.SSLWantReadError:
            continue
    digest = hashlib.sha256(ends[1].getpeercert(binary_form=True) or b"").digest()
    return digest.hex(":").upper()


def test_without_a_network_it_is_reached_here(tmp_path: Path, network: list[str]) -> None:
    network.clear()
    place = ClassroomAddress(ClassroomConfig(host="lan", data=str(tmp_path)))
    assert (place.addresses, place.teacher) == (("http://127.0.0.1:8080",), "http://127.0.0.1:8080")
    assert (place.context, place.fingerprint) == (None, "")


def test_what_a_teachers_certificate_is_for_is_typed(tmp_path: Path, network: list[str]) -> None:
    own = own_certificate(tmp_path, ["class.example", "10.9.9.9"])
    place = ClassroomAddress(
        ClassroomConfig(host="lan", tls="files", tls_cert=own.cert, tls_key=own.key, data=str(tmp_path), port=443)
    )
    assert place.addresses == ("https://class.example", "https://192.168.1.4")
    assert (place.teacher, place.fingerprint) == ("https://class.example", "")
    assert place.config.answers_to("class.example")


class Waited(Exception):
    """Ends the classroom's loop: the test has seen enough."""


def test_a_teacher_is_told_once_of_a_new_address(
    tmp_path: Path, network: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place, seen = ClassroomAddress(ClassroomConfig(host="lan", data=str(tmp_path))), []
    lesson: Any = SimpleNamespace(
        everybody=SimpleNamespace(addresses=place.addresses),
        tell_state=lambda: seen.append(lesson.everybody.addresses),
    )  # fmt: skip
    looks = iter([None, lambda: network.insert(0, "10.0.0.7"), None])

    async def sleep(_: float) -> None:
        change = next(looks, Waited)
        if change is Waited:
            raise Waited
        if change is not None:
            change()

    monkeypatch.setattr(running.asyncio, "sleep", sleep)
    with pytest.raises(Waited):
        asyncio.run(running._watch(lesson, place, running.Manner()))
    assert capsys.readouterr().out == "Students open http://10.0.0.7:8080 now.\n"
    assert seen == [("http://10.0.0.7:8080", "http://192.168.1.4:8080")]


def test_a_certificate_that_is_being_replaced_stays_as_it_was(tmp_path: Path, network: list[str]) -> None:
    own = own_certificate(tmp_path, [])
    place = ClassroomAddress(
        ClassroomConfig(host="lan", tls="files", tls_cert=own.cert, tls_key=own.key, data=str(tmp_path))
    )
    Path(own.cert).write_text("half of")
    with pytest.raises(CertificateError):
        place.look()
    assert (place.certificate, served(place)) == (own, own.fingerprint)
