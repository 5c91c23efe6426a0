"""Clients of a service (`proxybox serve`): boxes elsewhere, used like those here (extra `client`).

    client = proxybox.Client("http://127.0.0.1:8000")
    client.run("print(6 * 7)").stdout

Rule: what is asked, and how an answer is read, stands in asks.py and answers.py, once. aclient.py only carries it, and
client.py is made of that (tools/unasync.py).
"""
