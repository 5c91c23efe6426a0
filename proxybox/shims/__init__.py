"""Modules that take the place of another library's, by its own names, for programs that already use that library."""
