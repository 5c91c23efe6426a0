"""Microseconds per OS call: best of five loops of 5,000 each, with two clock reads around a loop."""

import json
import keyword
import os
import sys
import tempfile
import time

LOOPS, COUNT = 5, 5_000


def getuid():
    for _ in range(COUNT):
        os.getuid()


def stat(path):
    for _ in range(COUNT):
        os.stat(path)


def read_4k(fd):
    os.lseek(fd, 0, os.SEEK_SET)
    for _ in range(COUNT):
        os.read(fd, 4096)


def open_read_close(path):
    for _ in range(COUNT):
        fd = os.open(path, os.O_RDONLY)
        os.read(fd, 1024)
        os.close(fd)


def open_fstat_read_close(path):
    for _ in range(COUNT):
        fd = os.open(path, os.O_RDONLY)
        os.fstat(fd)
        os.read(fd, 8192)
        os.close(fd)


def best(loop, *arguments):
    fastest = float("inf")
    for _ in range(LOOPS):
        began = time.perf_counter()
        loop(*arguments)
        fastest = min(fastest, time.perf_counter() - began)
    return fastest / COUNT * 1e6


with tempfile.TemporaryDirectory() as folder:
    small, large = os.path.join(folder, "small"), os.path.join(folder, "large")
    with open(small, "wb") as file:
        file.write(bytes(1024))
    with open(large, "wb") as file:
        file.write(bytes(4096 * COUNT))
    fd = os.open(large, os.O_RDONLY)
    figures = {
        "getuid": best(getuid),
        "stat of a library file": best(stat, os.__file__),
        "open, fstat, read, close of a library file": best(open_fstat_read_close, keyword.__file__),
        "read of 4 KiB": best(read_4k, fd),
        "open, read 1 KiB, close (in memory)": best(open_read_close, small),
        "open, read 1 KiB, close (in /box)": best(open_read_close, sys.argv[0]),
    }
    os.close(fd)
print(json.dumps(figures))
