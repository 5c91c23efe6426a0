"""The service with the boxes in which students' programs run."""

import os
from collections.abc import Mapping
from typing import Final

from proxybox.classroom.course import Course
from proxybox.classroom.reading import LANGUAGE
from proxybox.policies import Policy
from proxybox.serve import config as serving
from proxybox.serve.service import Service

#: Seconds for which a program waits for input, and after which an unused box sleeps, and ends.
_INPUT_WAIT, _SLEEP, _END = 600.0, 20.0, 300.0
#: Sessions of each worker beyond one for each seat.
_SPARE: Final = 8


def service_of(data: str, course: Course, policies: Mapping[str, Policy], seats: int) -> Service:
    """Returns the service, which is not started yet. policies: by names. seats: the most seats."""
    language = serving.Language(guest=course.guest, packages=course.packages)
    workers = len(os.sched_getaffinity(0))
    limits = serving.ServiceLimits(input_wait=_INPUT_WAIT, live=seats, queue=8 * seats + 64)
    sessions = serving.ServiceSessions(most=3 * seats + 8, share=3, sleep_after=_SLEEP, end_after=_END, records=False)
    config = serving.ServiceConfig(
        listen="127.0.0.1:0", data=os.path.join(data, "boxes"), workers=workers, express=False, slots=1,
        live=seats // workers + _SPARE, policies=policies,
        languages={LANGUAGE: language}, drain=0.0, limits=limits, sessions=sessions,
    )  # fmt: skip
    return Service(config, has_keys=False)  # passes decide about access (passes.py)
