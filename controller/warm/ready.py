"""Boxes that stand ready: warm guests in worlds that are complete but for the contents of /box."""

import contextlib
import signal
import time
from collections.abc import Sequence

from proxybox.controller.boxes.box import BoxSpec, LiveBox, Run
from proxybox.controller.boxes.worldbuilding import BoxFolder
from proxybox.controller.drivers.blocking import Outcome
from proxybox.controller.process.undisturbed import Closing, Undisturbed
from proxybox.controller.warm.session import LiveSession
from proxybox.controller.warm.start import WarmStart
from proxybox.controller.world.output import OutputSink, Transcript
from proxybox.controller.world.stdin import Stdin
from proxybox.controller.world.streams import Streams

#: A guest that may have to run a program has a filter without fork(2).
NO_COPIES = "a session of a pool cannot be copied: a Sandbox has sessions that can"


def is_killed_by_others(outcome: Outcome) -> bool:
    """Whether the guest was killed by a process other than itself and its controller."""
    return outcome.status is None and outcome.signal == signal.SIGKILL


class ReadyBox:
    """A warm guest in a world without a program yet. The next task of a pool gets it."""

    def __init__(self, start: WarmStart, rehearses: bool = True) -> None:
        """Starts the guest and prepares it for a program. Raises SandboxStartError.

        rehearses: whether it runs a trivial program first, so that the real one finds everything prepared.
        """
        self._start = start
        policy = start.box.policy
        stdout = OutputSink("stdout", policy.output)
        self._builder = start.box.world(True, Stdin(), stdout, OutputSink("stderr", policy.output, stdout.transcript))
        try:
            with Undisturbed():
                self._live = start.idle(self._builder, time.monotonic_ns(), cpu_seconds=start.session_cpu())
                if rehearses:
                    start.rehearse(self._live)
        except BaseException:
            self._builder.close()
            raise

    def is_alive(self) -> bool:
        """Whether the guest still lives."""
        return self._live.process.watch.is_running()

    def run(
        self,
        words: Sequence[str],
        box: BoxSpec,
        *,
        folder: BoxFolder,
        streams: Streams,
    ) -> Run | None:
        """Runs a program as `BoxSpec.run` does, and closes the box.

        Returns None where the guest had been killed before it made any OS call. box: its policy may have other limits
        of time and output than the policy of the start.
        """
        with Closing(self.close):
            self._begin(words, box, folder, streams)
            calls = self._live.dispatcher.calls
            run = box.finish(self._live)
            return None if is_killed_by_others(run.outcome) and self._live.dispatcher.calls == calls else run

    def open(
        self,
        words: Sequence[str],
        box: BoxSpec,
        *,
        folder: BoxFolder,
        streams: Streams,
    ) -> LiveBox:
        """Starts a program as `BoxSpec.open` does. The caller owns the returned box and closes it."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._begin(words, box, folder, streams)
            self._live.undo.callback(self._builder.close)
            undo.pop_all()
            return self._live

    def _begin(self, words: Sequence[str], box: BoxSpec, folder: BoxFolder, streams: Streams) -> None:
        """Gives the guest its program, its files and its streams."""
        self._live.started_ns = time.monotonic_ns()
        self._live.dispatcher.calls = 0  # from here on they are the program's own
        self._builder.enter(folder)
        world, output, transcript = self._live.world, box.policy.output, Transcript()
        world.stdin.feed(streams.stdin)
        world.stdout.begin(output, transcript, streams.stdout)
        world.stderr.begin(output, transcript, streams.stderr)
        self._builder.tell_words(words)
        self._start.post(self._live, "run", tuple(words))
        self._live.policy = box.policy

    def session(self) -> LiveSession:
        """Turns the guest into a session. The caller owns the session and closes it."""
        with Undisturbed(), contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._live.started_ns = time.monotonic_ns()
            self._builder.enter(BoxFolder())
            self._start.lead(self._live)
            session = LiveSession.of(self._start.box, self._live)
            session.copies.refused = NO_COPIES
            undo.pop_all()
            return session

    def close(self) -> None:
        """Ends the guest."""
        self._builder.close()
        self._live.close()
