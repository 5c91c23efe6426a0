"""`proxybox batch`: runs the jobs of a file, and writes a line for each result."""

import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from proxybox.cli.arguments import Parsed
from proxybox.cli.choosing import choose_policy, chosen_packages
from proxybox.cli.clusters import connected
from proxybox.cli.exits import EXIT_CANCELLED, EXIT_CANNOT_RUN
from proxybox.cli.failures import CommandError
from proxybox.terminal.harmless import on_one_line
from proxybox.terminal.progress import shown_progress

if TYPE_CHECKING:
    from proxybox.batch.jobs import Job, JobFile
    from proxybox.batch.results import Results


def batch(jobs: str, parsed: Parsed, *, output: str, processes: int | None, check: bool, as_json: bool) -> int:
    """Runs the jobs that have no result yet, and prints the number of jobs by status."""
    try:
        with ExitStack() as stack:
            counts = _run(jobs, parsed, output, processes, stack)
    except KeyboardInterrupt:
        print("\nproxybox: interrupted; run the same command to go on", file=sys.stderr)
        return EXIT_CANCELLED
    _print_summary(counts, output, as_json=as_json)
    from proxybox.batch.results import AGAIN

    if any(counts[status] for status in AGAIN):
        return EXIT_CANNOT_RUN
    return int(check and any(status != "ok" for status in counts))


def _run(name: str, parsed: Parsed, output: str, processes: int | None, stack: ExitStack) -> Counter[str]:
    from proxybox.batch.jobs import JobFile, JobsError

    policy = choose_policy(parsed)
    guest = parsed.text("guest")
    file, folder = stack.enter_context(_opened(name))
    jobs = stack.enter_context(closing(JobFile(file, folder, policy)))
    try:
        count = jobs.check()
    except JobsError as error:
        raise CommandError("\n".join(f"{on_one_line(name)}: {line}" for line in str(error).splitlines())) from None
    results = None if output == "-" else _results(output, stack)
    client = stack.enter_context(connected(parsed.text("cluster")))
    packages = parsed.texts("packages") if client else chosen_packages(parsed.texts("packages"), guest)
    advance = stack.enter_context(shown_progress("Running", count))
    left = _Left(jobs, results, advance)
    from proxybox.batch.mapping import map as run_all

    answers = stack.enter_context(
        closing(
            run_all(
                None,
                left.items(),
                ordered=False,
                executor=client,
                workers=processes,
                policy=policy,
                packages=packages,
                guest=guest,
            )
        )
    )
    for number, result in answers:
        left.take(number, result.to_dict())
    return left.counts


@contextmanager
def _opened(name: str) -> Iterator[tuple[BinaryIO, str]]:
    """Opens the file of the jobs for the block, and yields it with its folder. A file without seek is copied first.

    Standard input is copied, and its folder is the current one. Raises CommandError.
    """
    folder = "." if name == "-" else os.path.dirname(os.path.abspath(name))
    try:
        opened = open(os.dup(0) if name == "-" else name, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise CommandError(f"can't read {on_one_line(name)}: {error.strerror or error}") from None
    with opened as file:
        if file.seekable() and name != "-":
            yield file, folder
            return
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(file, copy)
            yield copy, folder


def _results(output: str, stack: ExitStack) -> "Results":
    from proxybox.batch.results import Results

    try:
        results = stack.enter_context(closing(Results(Path(output))))
    except OSError as error:
        raise CommandError(f"can't write to {on_one_line(output)}: {error.strerror or error}") from None
    if results.repaired:
        summary = f"removed {results.repaired:,} bytes of an incomplete line"
        print(f"proxybox: {on_one_line(output)}: {summary}", file=sys.stderr)
    return results


class _Left:
    """The jobs without a result yet, and the file for results. counts: the number of all jobs by status."""

    def __init__(self, jobs: "JobFile", results: "Results | None", advance: Callable[[], object]) -> None:
        self.counts: Counter[str] = Counter()
        self._jobs = jobs
        self._results = results
        self._advance = advance
        self._begun: dict[int, tuple[str, str]] = {}

    def items(self) -> Iterator[dict[str, Any]]:
        """Yields the items for `map`."""
        number = 0
        for job in self._jobs.read():
            status = self._status(job)
            if status is not None:
                self.counts[status] += 1
                self._advance()
                continue
            self._begun[number] = job.id, job.digest
            number += 1
            yield job.keywords

    def _status(self, job: "Job") -> str | None:
        """Returns the status of a job; None if it has no result, has changed since, or must run again."""
        from proxybox.batch.results import AGAIN

        known = None if self._results is None else self._results.known.get(job.id)
        return None if known is None or known.job != job.digest or known.status in AGAIN else known.status

    def take(self, number: int, result: dict[str, Any]) -> None:
        """Writes a result."""
        from proxybox.batch.results import line_of

        ident, digest = self._begun.pop(number)
        if self._results is None:
            sys.stdout.write(line_of(ident, digest, result).decode())
            sys.stdout.flush()
        else:
            try:
                self._results.add(ident, digest, result)
            except OSError as error:
                raise CommandError(
                    f"a result cannot be written: {error.strerror or error}; run the same command to go on"
                ) from None
        self.counts[result["status"]] += 1
        self._advance()


def _print_summary(counts: Counter[str], output: str, *, as_json: bool) -> None:
    file = sys.stderr if output == "-" else sys.stdout
    ordered = dict(sorted(counts.items(), key=lambda each: (each[0] != "ok", -each[1], each[0])))
    if as_json:
        print(json.dumps({"jobs": counts.total(), "statuses": ordered}), file=file)
        return
    summary = ", ".join(f"{count:,} {status.replace('_', ' ')}" for status, count in ordered.items())
    where = "" if output == "-" else f". Results: {on_one_line(output)}"
    print(f"{counts.total():,} job{'' if counts.total() == 1 else 's'}{summary and f': {summary}'}{where}", file=file)
