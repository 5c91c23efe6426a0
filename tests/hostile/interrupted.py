"""A program of its own for test_callers: KeyboardInterrupt at every line that starts a box, one after another.

Prints each place at which something was left behind. Apart from the tests, because what is left would be theirs.
"""

import linecache
import os
import signal
import sys
import time

import proxybox


class Interrupt:
    """Sends SIGINT to this process at the nth line that runs of the files that start a box."""

    def __init__(self, nth):
        self.left, self.place = nth, None

    def __call__(self, frame, event, arg):
        name = os.path.basename(frame.f_code.co_filename)
        if "/controller/" not in frame.f_code.co_filename or name not in ("launch.py", "keeper.py", "box.py"):
            return None
        if frame.f_code.co_name in ("take", "give_back"):  # only a lock, whose `with` the interpreter guards
            return None
        # Leaving a with block calls a trace function before __exit__; for signals the interpreter does not look there.
        leaving = linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with Closing")
        if event == "line" and not leaving:
            self.left -= 1
            if not self.left:
                self.place = f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return self


def held():
    """Descriptors and children of this process."""
    found = {fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}") or fd in "012"}
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat") as file:
                if name.isdigit() and file.read().rpartition(")")[2].split()[1] == str(os.getpid()):
                    found.add(f"process {name}")
        except OSError:
            continue
    return found


def main():
    proxybox.run("1", check=True)
    for nth in range(1, 2000):
        before = set(held())
        interrupt = Interrupt(nth)
        sys.settrace(interrupt)
        try:
            proxybox.run("1", timeout=5)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        if interrupt.place is None:
            return
        end = time.monotonic() + 0.1
        while (left := len(held()) - len(before)) > 0 and time.monotonic() < end:
            pass
        if left > 0:
            print(interrupt.place, flush=True)


main()
