"""Host names that a box looks up: those of /etc/hosts are found, and others are refused like a socket."""

import pytest

import proxybox
from proxybox import Denial, Policy, Status

REFUSED = Denial(call="socket", errno="EPERM", reason="network: none")
EACH_GUEST = True


@pytest.mark.parametrize("call", ["getaddrinfo('example.com', 80)", "gethostbyname('example.com')"])
def test_a_failed_look_up_is_a_refusal(call: str) -> None:
    result = proxybox.run(f"import socket\ntry: socket.{call}\nexcept OSError as error: print('failed')")
    assert result.stdout == "failed\n", result.stderr
    assert REFUSED in result.denials


def test_names_that_the_box_has_need_no_network() -> None:
    looks = "socket.gethostbyname('localhost'), socket.getfqdn(), socket.getaddrinfo('10.0.0.1', 80)[0][4]"
    result = proxybox.run(f"import socket\nprint({looks})", environment={"hostname": "here"})
    assert result.stdout == "127.0.0.1 here ('10.0.0.1', 80)\n", result.stderr
    assert not result.denials


def test_a_policy_may_end_a_program_for_it() -> None:
    policy = Policy(on_denied="end")
    assert proxybox.run("import socket; socket.gethostbyname('localhost')", policy=policy).ok
    assert proxybox.run("import socket; socket.gethostbyname('example.com')", policy=policy).status is Status.DENIED
