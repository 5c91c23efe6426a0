"""Connections of clients, bounded: those of `proxybox serve` and of `proxybox classroom` are of the same classes.

bounds.py      how much a connection may take, and how many there are of one address
forms.py       requests that two programs could read in two ways, which are refused
http.py        a connection that speaks HTTP/1.1
watching.py    how long it may take: what comes has to come, and what is sent has to be taken
websocket.py   a connection that has become a WebSocket
room.py        the bytes of bodies that are in memory for one client, and for all
turns.py       whose request begins next
bodies.py      the body of a request as its door reads it
"""
