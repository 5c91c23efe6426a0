"""Modules that replace those of another library, with the same names, for programs that already use that library."""
