"""Guests that wait: zygotes and who keeps them, boxes that are ready, sessions. What they run is led from inside, by
proxybox/guest/bootstrap.py."""
