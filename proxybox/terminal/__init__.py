"""What is shown to people by the command line, the prompt and the kernel.

These modules make text that is safe for a terminal, colours, tables, and lines for calls like those of strace(1).
"""
