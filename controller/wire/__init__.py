"""Calls as bytes: frames (protocol.py), and the pipe ends that carry them (channel.py).

A guest may send any bytes; the worst that they can do is end its box.
"""
