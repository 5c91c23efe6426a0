"""Boxes that stand ready: warm guests in worlds that lack only what stands at /box, for whoever comes next."""

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

#: A guest that may become a program has a filter without fork(2).
NO_COPIES = "a session of a pool cannot be copied: a Sandbox has sessions that can"


def is_killed_by_others(outcome: Outcome) -> bool:
    """Whether neither the guest nor its controller has done that."""
    return outcome.status is None and outcome.signal == signal.SIGKILL


class ReadyBox:
    """A warm guest in a world without a program yet, for whoever comes next."""

    def __init__(self, start: WarmStart) -> None:
        """Raises SandboxStartError."""
        self._start = start
        policy = start.box.policy
        stdout = OutputSink("stdout", policy.output)
        self._builder = start.box.world(True, Stdin(), stdout, OutputSink("stderr", policy.output, stdout.transcript))
        try:
            with Undisturbed():
                self._live = start.idle(self._builder, time.monotonic_ns(), cpu_seconds=start.session_cpu())
                start.rehearse(self._live)
        except BaseException:
            self._builder.close()
            raise

    def is_alive(self) -> bool:
        """Whether its guest still lives."""
        return self._live.process.watch.is_running()

    def run(
        self,
        words: Sequence[str],
        box: BoxSpec,
        *,
        folder: BoxFolder,
        streams: Streams,
    ) -> Run | None:
        """As `BoxSpec.run`, and then it is gone; None where its guest had been killed before it could do anything. box:
        whose policy may have other limits of time and calls."""
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
        """As `BoxSpec.open`: whose it is then."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._begin(words, box, folder, streams)
            self._live.undo.callback(self._builder.close)
            undo.pop_all()
            return self._live

    def _begin(self, words: Sequence[str], box: BoxSpec, folder: BoxFolder, streams: Streams) -> None:
        """Gives it its program."""
        self._live.started_ns = time.monotonic_ns()
        self._builder.enter(folder)
        world, output, transcript = self._live.world, box.policy.output, Transcript()
        world.stdin.feed(streams.stdin)
        world.stdout.begin(output, transcript, streams.stdout)
        world.stderr.begin(output, transcript, streams.stderr)
        self._builder.tell_words(words)
        self._start.post(self._live, "run", tuple(words))
        self._live.policy = box.policy

    def session(self) -> LiveSession:
        """A session in it, whose it is then."""
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
        """Ends it."""
        self._builder.close()
        self._live.close()
