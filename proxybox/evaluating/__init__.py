"""Expressions that users write (rules, formulas, conditions of templates), evaluated in boxes for their values.

evaluator.py has the class, shared.py the function `evaluate`. sessioncache.py and copied.py decide which box evaluates
an expression; each assigns sessions (session.py) to threads in the order of their requests (pool/slots.py).
"""
