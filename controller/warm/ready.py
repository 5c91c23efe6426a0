"""Boxes that are ready: warm guests in worlds that are complete except for the content of /box."""

import contextlib
import math
import signal
import time
from collections.abc import Sequence

from proxybox.controller.boxes.box import BoxResult, BoxRunner, LiveBox
from proxybox.controller.boxes.worldbuilding import BoxFolder
from proxybox.controller.drivers.blocking import Outcome
from proxybox.controller.process.undisturbed import Closing, Undisturbed
from proxybox.controller.warm.session import LiveSession
from proxybox.controller.warm.start import WarmStart
from proxybox.controller.world.output import OutputSink, Transcript
from proxybox.controller.world.stdin import Stdin
from proxybox.controller.world.streams import StandardStreams
from proxybox.policies import Policy

#: A guest that may have to run a program has a filter without fork(2).
NO_COPIES = "a session of a pool cannot be copied: a Sandbox has sessions that can"
#: A killed guest without calls that has used less CPU time, in nanoseconds, has not begun its program.
UNBEGUN_NS = 5_000_000


def is_void(live: LiveBox, outcome: Outcome) -> bool:
    """Whether other processes have killed the guest before its program began: then another guest runs the program."""
    is_killed = outcome.status is None and outcome.signal == signal.SIGKILL
    has_called = any(thread.calls > live.calls_before for thread in live.world.threads)
    return is_killed and not has_called and live.process.cpu_ns - live.cpu_before_ns < UNBEGUN_NS


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
                self._live.dispatcher.limit = math.inf  # until it gets a program or becomes a session
                if rehearses:
                    start.rehearse(self._live)
        except BaseException:
            self._builder.close()
            raise

    def tighten(self, policy: Policy) -> bool:
        """Replaces the limits of the start's policy by those of one run, of which none is looser.

        Returns False where the kernel does not allow that; then the box cannot be used.
        """
        if policy is self._start.box.policy:
            return True
        new, old = policy.limits, self._start.box.policy.limits
        if (new.memory, new.threads) != (old.memory, old.threads) and not self._live.process.tighten(new):
            return False
        self._builder.tighten(policy)
        return True

    def is_alive(self) -> bool:
        """Whether the guest still lives."""
        return self._live.process.watch.is_running()

    def run(
        self,
        words: Sequence[str],
        box: BoxRunner,
        *,
        folder: BoxFolder,
        streams: StandardStreams,
    ) -> BoxResult | None:
        """Runs a program as `BoxRunner.run` does, and closes the box.

        Returns None when it `is_void`. box: its policy may have another limit of wall time than the policy of the
        start, and other limits of those that `tighten` was given.
        """
        with Closing(self.close):
            self._begin(words, box, folder, streams)
            run = box.finish(self._live)
            return None if is_void(self._live, run.outcome) else run

    def open(
        self,
        words: Sequence[str],
        box: BoxRunner,
        *,
        folder: BoxFolder,
        streams: StandardStreams,
    ) -> LiveBox:
        """Starts a program as `BoxRunner.open` does. The caller owns the returned box and closes it."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._begin(words, box, folder, streams)
            self._live.undo.callback(self._builder.close)
            undo.pop_all()
            return self._live

    def _begin(self, words: Sequence[str], box: BoxRunner, folder: BoxFolder, streams: StandardStreams) -> None:
        """Passes its program, files and streams to the guest."""
        self._live.started_ns = time.monotonic_ns()
        self._live.dispatcher.count_anew()
        self._builder.enter(folder)
        world, output, transcript = self._live.world, box.policy.output, Transcript()
        world.stdin.feed(streams.stdin)
        world.stdout.begin(output, transcript, streams.stdout)
        world.stderr.begin(output, transcript, streams.stderr)
        self._builder.tell_words(words)
        self._start.post(self._live, "run", tuple(words))
        self._live.policy = box.policy
        self._live.calls_before = world.threads[0].calls
        self._live.cpu_before_ns = self._live.process.watch.cpu_time_ns()

    def session(self) -> LiveSession:
        """Turns the guest into a session. The caller owns the session and closes it."""
        with Undisturbed(), contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._live.started_ns = time.monotonic_ns()
            self._builder.enter(BoxFolder())
            self._start.lead(self._live)
            self._live.dispatcher.count_anew()
            session = LiveSession.of(self._start.box, self._live)
            session.copies.refused = NO_COPIES
            undo.pop_all()
            return session

    def close(self) -> None:
        """Ends the guest."""
        self._builder.close()
        self._live.close()
