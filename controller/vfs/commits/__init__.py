"""The changes of an overlay written to the host, when the caller asks for it.

They are planned whole, staged whole, checked, recorded in a journal, and then applied. At every moment each byte is in
the old place or in the new one.
"""
