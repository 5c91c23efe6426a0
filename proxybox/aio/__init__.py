"""Sandboxes, sessions and pools for event loops, of asyncio and of trio (extra `async`).

The blocking classes document what the methods do. The modules here document how an event loop waits for them.
"""
