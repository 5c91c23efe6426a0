"""Boxes that stand ready (pool.py, boxes.py), and processes that work for this one: those of a pool (workers.py,
worker.py) and those that grade (executor.py)."""
