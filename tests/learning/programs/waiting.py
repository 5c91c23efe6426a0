"""Waits for time to pass, by looking at the clock and computing in between."""

import time

end = time.monotonic() + 0.3
turns = 0
while time.monotonic() < end:
    turns += 1
print("waited", turns > 0)
