"""Never ends, and does not listen to anybody who asks it to."""

import signal

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
    signal.signal(number, signal.SIG_IGN)
print("spinning", flush=True)
while True:
    pass
