"""Bytes to calls and back: frames (protocol.py), and the pipe ends that carry them (channel.py). Any bytes may come; at
worst the box ends."""
