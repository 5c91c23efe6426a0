"""Not a package: replacements in pure Python 3.6 of modules that a PyPy translated with --sandbox lacks.

Boxes with such a guest have them in the first folder of its sys.path. They run in the box, and are not trusted.
docs/differences.md says how they differ from the modules that they replace.
"""
