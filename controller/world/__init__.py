"""The world of one guest, with its changes: its files, threads, signals, clock, streams.

Its code does not handle the guest's process.
"""
