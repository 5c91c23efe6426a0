"""All names that doors of other systems may import from the service. They remain compatible (docs/serve-doors.md).

A door is an APIRouter of FastAPI, in a `ServiceDoor` to which an entry point of the group `proxybox.serve.doors` leads:

    router = APIRouter(prefix="/mine", route_class=shaped(_refused), include_in_schema=False)
    door = ServiceDoor(router=router, clients=("/mine/",))

    @router.post("/run")
    async def post_run(request: Request) -> Response:
        caller = caller_by(request, bearer(request))        # the first step of a route
        body = parsed(RunBody, await request.body())
        return as_json(json.loads(await run(request, caller, {"code": body.code})))

What a door may use of a `Service`: `config`, `state` and `why`; `jobs.policy`, `jobs.language` and `jobs.within`; and
`sessions.open`, `.command` and `.end`. All else of the service may change. A door has no other way to a box, and stores
its clients' files with `keep` and the functions beside it alone.
"""

from collections.abc import Iterable

from starlette.requests import HTTPConnection

from proxybox import argumentchecks
from proxybox.jsonvalues import JSONObject as JSONObject
from proxybox.policies import PolicyError
from proxybox.policies.declaring import Measure as Measure
from proxybox.policies.keys import keys as keys
from proxybox.serve.asking import as_json as as_json
from proxybox.serve.asking import bearer as bearer
from proxybox.serve.asking import caller_by as caller_by
from proxybox.serve.asking import content as content
from proxybox.serve.asking import in_words as in_words
from proxybox.serve.asking import note as note
from proxybox.serve.asking import of_door as of_door
from proxybox.serve.asking import parsed as parsed
from proxybox.serve.asking import password as password
from proxybox.serve.asking import run as run
from proxybox.serve.asking import service_of as service_of
from proxybox.serve.asking import shaped as shaped
from proxybox.serve.asking import until_gone as until_gone
from proxybox.serve.callers import Caller as Caller
from proxybox.serve.clientfiles import collect as collect
from proxybox.serve.clientfiles import find as find
from proxybox.serve.clientfiles import for_worker as for_worker
from proxybox.serve.clientfiles import keep as keep
from proxybox.serve.clientfiles import remove as remove
from proxybox.serve.clientfiles import shelf as shelf
from proxybox.serve.config import ServiceConfig as ServiceConfig
from proxybox.serve.edge import visit
from proxybox.serve.guestfacts import facts_of as facts_of
from proxybox.serve.guestfacts import python3 as python3
from proxybox.serve.paths import ServiceDoor as ServiceDoor
from proxybox.serve.problems import Refusal as Refusal
from proxybox.serve.service import Service as Service


def request_id(connection: HTTPConnection) -> str:
    """Returns the id of a request, which is also the id of its run while that runs."""
    return visit(connection.scope).id


def check_names(names: Iterable[str]) -> None:
    """Checks that names of files are paths below a folder, and that none is the folder of another. Raises Refusal."""
    try:
        argumentchecks.files(dict.fromkeys(names, b""))
    except PolicyError as error:
        raise Refusal("invalid", str(error)) from None
