"""What is shown to people by the command line, the prompt and the kernel.

That is: text that is safe for a terminal, colours, tables, and calls as strace(1) prints them.
"""
