"""PyPy translated with --sandbox, as a guest: RPython marshals calls of libc's functions over the guest's fds 0 and 1.

    wire.py      requests and commands as bytes; no other file reads what such a guest sends
    channel.py   replaces channel.Channel: turns requests of that wire into frames for the dispatcher
    asking.py    what a function of libc requests: guest memory, OS calls
    libc.py      each function of libc: which OS call it becomes, or how it is refused
    functions/   functions that are more than one OS call
    finding.py   how such a guest is recognised, and what it needs

The OS calls are those of every guest (dispatch.py, oscalls/), with the same handlers, policies, limits and audit.
"""
