"""Megabytes per second, reading or writing a file from one end to the other in pieces.

usage: sequential.py read|write PATH PIECE MEGABYTES
"""

import json
import os
import sys
import time

what, path, piece, total = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) * 1_000_000


def read():
    fd = os.open(path, os.O_RDONLY)
    done = 0
    while data := os.read(fd, piece):
        done += len(data)
    os.close(fd)
    return done


def write():
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    data = bytes(piece)
    done = 0
    while done < total:
        done += os.write(fd, data[: total - done])
    os.close(fd)
    return done


if what == "read" and not os.path.exists(path):
    write()
loop = {"read": read, "write": write}[what]
fastest = float("inf")
for _ in range(3):
    began = time.perf_counter()
    done = loop()
    fastest = min(fastest, time.perf_counter() - began)
    if done != total:
        raise SystemExit(f"{done} bytes instead of {total}")
os.unlink(path) if what == "write" else None
print(json.dumps({"MB/s": total / fastest / 1e6}))
