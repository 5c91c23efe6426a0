"""The commands of a session, as a worker carries them out: a function for each class of workerjobs.py."""

import base64
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from proxybox.commands import Displayed
from proxybox.jsonvalues import JSONObject, from_json, to_json
from proxybox.result import Result, Status
from proxybox.serve import filetransfers, workerjobs
from proxybox.serve.results import display_event, result_as_json
from proxybox.serve.runningjob import RunningJob
from proxybox.session import Session
from proxybox.streamevents import as_data


def carry_out(session: Session, command: workerjobs.SessionCommand, job: RunningJob) -> JSONObject:
    """Does a command, and returns its answer. Raises the exceptions of the session."""
    if not _is_of_files(command):  # cancelling a file command does not interrupt the call that runs
        job.begin(session.interrupt, session.interrupt)
    done = _COMMANDS[type(command)](session, command, job)
    if command.weigh and session.alive:
        done["memory"] = session.usage.memory
    return {**done, "alive": session.alive}


def _is_of_files(command: workerjobs.SessionCommand) -> bool:
    """Returns whether a command runs no code of the session."""
    return isinstance(
        command,
        workerjobs.FileJob | workerjobs.WriteFileJob | workerjobs.ReceiveFileJob | workerjobs.FolderJob
        | workerjobs.ChangesJob,
    )  # fmt: skip


def _execute(session: Session, command: workerjobs.ExecuteJob, job: RunningJob) -> JSONObject:
    shown: list[JSONObject] = []
    options: dict[str, Any] = {"timeout": command.timeout}
    if command.interactive or command.stdin is not None:
        options["stdin"] = job.stdin(command.stdin, interactive=command.interactive)
    if command.op == "exec":
        options |= {"name": command.name, "echo": command.echo}

    def take(displayed: Displayed) -> None:
        event = display_event(displayed)
        if command.stream:
            job.tell(event)
        else:
            shown.append({key: value for key, value in as_data(event).items() if key != "event"})

    if command.stream:
        options |= {"on_stdout": job.printed("stdout"), "on_stderr": job.printed("stderr")}
    method = session.exec if command.op == "exec" else session.eval
    result = result_as_json(method(command.code, on_display=take, **options))
    if command.stream:
        job.tell_error(result)
    return {**result, "display": shown}


def _call(session: Session, command: workerjobs.CallJob, _: RunningJob) -> JSONObject:
    args, kwargs = from_json(command.args), from_json(command.kwargs)
    return {**result_as_json(session.call(command.name, *args, **kwargs)), "display": []}


def _set(session: Session, command: workerjobs.SetJob, _: RunningJob) -> JSONObject:
    session.set(command.name, from_json(command.value))
    return {}


def _get(session: Session, command: workerjobs.GetJob, _: RunningJob) -> JSONObject:
    return {"value": to_json(session.get(command.name))}


def _code(session: Session, command: workerjobs.CodeJob, _: RunningJob) -> JSONObject:
    if command.op == "complete":
        return attrs.asdict(session.complete(command.code, command.cursor))
    if command.op == "is_complete":
        return attrs.asdict(session.is_complete(command.code))
    found = session.inspect(command.code, command.cursor, command.detail)
    return {"found": None if found is None else attrs.asdict(found)}


def _reset(session: Session, _: workerjobs.ResetJob, __: RunningJob) -> JSONObject:
    session.reset()
    return {}


def _file(session: Session, command: workerjobs.FileJob, job: RunningJob) -> JSONObject:
    if command.op == "read_file":
        return {"base64": base64.b64encode(session.read_file(command.path, command.limit)).decode()}
    filetransfers.send(session, command, job.line, job.give)
    return {}


def _write_file(session: Session, command: workerjobs.WriteFileJob, _: RunningJob) -> JSONObject:
    session.write_file(command.path, base64.b64decode(command.base64), parents=command.parents)
    return {}


def _receive_file(session: Session, command: workerjobs.ReceiveFileJob, job: RunningJob) -> JSONObject:
    given_up = threading.Event()
    job.begin(given_up.set, given_up.set)
    filetransfers.receive(session, command, job.line, job.give, given_up.is_set)
    return {}


def _folder(session: Session, command: workerjobs.FolderJob, _: RunningJob) -> JSONObject:
    return {"entries": [attrs.asdict(entry) for entry in session.list_files(command.path)]}


def _changes(session: Session, _: workerjobs.ChangesJob, __: RunningJob) -> JSONObject:
    return {"files": result_as_json(Result(status=Status.OK, files=session.files))["files"]}


_COMMANDS: Final[Mapping[type, Callable[[Session, Any, RunningJob], JSONObject]]] = {
    workerjobs.ExecuteJob: _execute, workerjobs.CallJob: _call, workerjobs.SetJob: _set, workerjobs.GetJob: _get,
    workerjobs.CodeJob: _code, workerjobs.ResetJob: _reset, workerjobs.FileJob: _file,
    workerjobs.WriteFileJob: _write_file, workerjobs.ReceiveFileJob: _receive_file, workerjobs.FolderJob: _folder,
    workerjobs.ChangesJob: _changes,
}  # fmt: skip
