"""PyPy translated with --sandbox, as a guest: libc's functions, marshalled by RPython over the guest's own fd 0 and 1.

    wire.py      requests and commands as bytes; nothing else reads what such a guest says
    channel.py   a wire of that kind in the place of channel.py's: frames for the dispatcher come out of it
    libc.py      each function of libc's: which OS call it becomes, or what it is answered
    finding.py   how such a guest is recognised, and what it needs

The calls are those of every guest (dispatch.py, oscalls/): same handlers, policies, limits, audit.
"""
