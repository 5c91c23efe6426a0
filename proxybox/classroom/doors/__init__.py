"""The doors: one module for each kind of visitor. They check who asks and what is sent, and ask the lesson.

Rule: a door says nothing of its own. What may be done, and to whom, is said by the lesson and what stands behind it.
"""
