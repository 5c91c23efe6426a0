"""Boxes as tools of language models: the Model Context Protocol (https://modelcontextprotocol.io).

Rules: server.py defines the tools for both transports: the service's (doors/mcp.py), and standard input and output
(local.py); their boxes are in different places. A program's output is never in the block of text with our own words,
nor on the standard output of this process.
"""
