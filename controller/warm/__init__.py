"""Guests that wait: zygotes and their pool, boxes that are ready, and sessions.

Inside such a guest, proxybox/guest/bootstrap.py carries out the commands.
"""
