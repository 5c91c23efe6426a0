"""Guests that wait: zygotes and the nursery that keeps them, boxes that are ready, and sessions.

Inside such a guest, proxybox/guest/bootstrap.py carries out the commands.
"""
