"""What is done for a guest and costs the host something: CPU time, steps of a call, descriptors.

It is counted and bounded here for each box. Nothing here knows what it is spent on.
"""
