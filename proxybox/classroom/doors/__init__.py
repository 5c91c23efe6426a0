"""The doors: one module for each kind of visitor. They check the sender and the content of requests.

Rule: a door decides nothing itself. The lesson and its parts decide what may be done, and to which seats.
"""
