"""Boxes that are ready (pool.py, boxes.py), and processes that work for this process.

The processes of a pool are in workers.py and worker.py, those for grading in executor.py.
"""
