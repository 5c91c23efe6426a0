"""The changes of an overlay written to the host, when the caller asks for it.

All changes are planned and staged, then checked, recorded in a journal, and applied. At every moment each byte is in
the old place or in the new one.
"""
