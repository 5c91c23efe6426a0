"""Not a package: modules in the place of some that a PyPy translated with --sandbox lacks, in pure Python 3.6.

Boxes with such a guest see them in the first folder of its sys.path. They run in there, and are not trusted.
docs/differences.md says in what they differ from those for which they stand.
"""
