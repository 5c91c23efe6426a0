"""The classroom: one computer serves many students. Each has a seat, an editor in the browser, and a box.

Rule: what students and their programs write is data here. It is stored, and shown as text. It runs only in boxes. The
tests of exercises come from the teacher and run in separate processes.
"""
