"""Expressions that users write (rules, formulas, conditions of templates), evaluated in boxes for their values.

evaluator.py has the class, shared.py the function `evaluate`. Which box evaluates an expression is decided in
sessioncache.py and copied.py, each of which hands out sessions (session.py) to threads in the order of their asking
(pool/slots.py).
"""
