"""The classroom: one machine teaches many, each of whom has a seat, an editor in a browser, and a box.

Rule: what students and their programs write is data here. It is kept, and shown as text; it runs in boxes alone, and
tests of exercises, which are the teacher's, run in processes of their own.
"""
