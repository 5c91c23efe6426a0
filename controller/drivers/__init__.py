"""Drivers carry out what the core returns: they read, wait and write, and decide nothing."""
