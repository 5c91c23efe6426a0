"""What doors share: the policy and language of a protocol that names neither."""

import pytest

from proxybox.serve.asking import of_door
from proxybox.serve.callers import Caller
from proxybox.serve.config import ServiceConfig
from proxybox.serve.problems import Refusal
from proxybox.serve.service import Service


@pytest.fixture
def service(tmp_path) -> Service:
    policies = {"strict": "strict", "codejail": "codejail"}
    languages = {"python": {}, "codejail": {"guest": "cpython"}}
    return Service(ServiceConfig(data=str(tmp_path), policies=policies, languages=languages))


def test_what_is_named_as_the_door_is_for_it(service: Service) -> None:
    assert of_door(service, Caller(), "codejail") == {"policy": "codejail", "language": "codejail"}


def test_a_door_without_its_own_has_the_first(service: Service) -> None:
    assert of_door(service, Caller(), "sandboxfusion") == {"policy": "strict", "language": "python"}


def test_a_key_that_may_not_use_it_has_its_own_first(service: Service) -> None:
    assert of_door(service, Caller(policies=("strict",)), "codejail")["policy"] == "strict"
    with pytest.raises(Refusal, match="none"):
        of_door(service, Caller(policies=()), "codejail")
