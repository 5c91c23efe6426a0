"""Signals: handlers, masks, alarms and timers, waits, interruption."""

import errno
import os
import select
import signal
import threading
import time

seen = []


def handler(number, frame):
    seen.append(signal.Signals(number).name)


print(signal.getsignal(signal.SIGUSR1), signal.signal(signal.SIGUSR1, handler) == signal.SIG_DFL)
os.kill(os.getpid(), signal.SIGUSR1)
signal.raise_signal(signal.SIGUSR1)
print(seen)
seen.clear()

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.kill(os.getpid(), signal.SIGUSR1)
print("blocked", seen, signal.sigpending(), signal.pthread_sigmask(signal.SIG_BLOCK, []))
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
print("unblocked", seen, signal.sigpending())
seen.clear()

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
os.kill(os.getpid(), signal.SIGUSR2)
print("waited", signal.sigwait([signal.SIGUSR2]))
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])

signal.signal(signal.SIGALRM, handler)
print("none set", signal.alarm(100), signal.alarm(0) in (99, 100), signal.alarm(0))
signal.setitimer(signal.ITIMER_REAL, 0.02)
started = time.monotonic()
time.sleep(0.1)
print("sleep goes on", seen, time.monotonic() - started >= 0.1)
seen.clear()
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
while len(seen) < 3:
    signal.pause()
print("timer", seen[:3], signal.setitimer(signal.ITIMER_REAL, 0)[1])
seen.clear()


class Interrupted(Exception):
    pass


def raiser(number, frame):
    raise Interrupted


signal.signal(signal.SIGALRM, raiser)
reading, writing = os.pipe()
for action in (
    lambda: time.sleep(100),
    lambda: os.read(reading, 1),
    lambda: select.select([reading], [], [], 100),
    lambda: threading.Event().wait(100),
    lambda: threading.Lock().__enter__() or time.sleep(100),
    lambda: sum(1 for _ in iter(int, 1)),
):
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        action()
    except Interrupted:
        print("interrupted")

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("KeyboardInterrupt")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.kill(os.getpid(), signal.SIGTERM)
print("ignored")
for number in (signal.SIGKILL, signal.SIGSTOP, 0, 65):
    try:
        signal.signal(number, handler)
    except (OSError, ValueError) as error:
        print(type(error).__name__)
try:
    os.kill(99_999_999, 0)
except OSError as error:
    print(errno.errorcode[error.errno])
print(os.kill(os.getpid(), 0))

wake, notify = os.pipe()
os.set_blocking(notify, False)
signal.set_wakeup_fd(notify)
os.kill(os.getpid(), signal.SIGUSR1)
print("wakeup", os.read(wake, 9) == bytes([signal.SIGUSR1]), signal.set_wakeup_fd(-1) == notify)
thread = threading.Thread(target=lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1))
seen.clear()
thread.start()
thread.join()
print("from a thread", seen, signal.strsignal(signal.SIGSEGV), signal.SIGUSR1 in signal.valid_signals())
