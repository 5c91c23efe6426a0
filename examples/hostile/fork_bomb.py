"""Forks for ever, then tries to start a shell."""

import os

children = 0
try:
    while True:
        if os.fork() == 0:
            while True:
                pass
        children += 1
except OSError as error:
    print(f"fork number {children + 1}: {error}")

try:
    os.execv("/bin/sh", ["sh", "-c", "echo a shell"])
except OSError as error:
    print(f"execv: {error}")
