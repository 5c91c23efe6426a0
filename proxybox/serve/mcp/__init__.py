"""Boxes as tools of language models: the Model Context Protocol (https://modelcontextprotocol.io).

Rules: what the tools are is said once, in server.py, for both transports: the service's (doors/mcp.py) and standard
input and output (local.py), which differ in where the boxes are. What a program printed never stands in the block of
text that has our own words, nor on the standard output of this process.
"""
