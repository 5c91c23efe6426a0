"""Clients of a service (`proxybox serve`): remote boxes, used like local ones (extra `client`).

    client = proxybox.Client("http://127.0.0.1:8000")
    client.run("print(6 * 7)").stdout

Rule: asks.py makes all requests, and answers.py reads all answers. aclient.py only sends and receives them, and
client.py is generated from it (tools/unasync.py).
"""
