"""Connections of clients, with bounds; `proxybox serve` and `proxybox classroom` use the same classes.

bounds.py      the bounds of a connection, and of all connections of one address
forms.py       requests that two programs could read in two ways, which are refused
http.py        a connection that speaks HTTP/1.1
watching.py    how long it may take: the client has to send, and to read, at a least rate
websocket.py   a connection that has become a WebSocket
room.py        the bytes of bodies that are in memory for one client, and for all
turns.py       whose request begins next
bodies.py      the body of a request as its door reads it
"""
