"""What one guest sees, and what it has changed: its files, threads, signals, clock, streams.

A world knows nothing of the process that lives in it.
"""
