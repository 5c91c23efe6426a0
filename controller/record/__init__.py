"""Records of runs, and replays: guests that are answered from a record alone.

Rule: any record may be forged. A record gives a guest only bytes, and leads to no file of the host except those of the
interpreter's own library, which every box sees.
"""
