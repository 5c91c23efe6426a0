"""Sandboxes, sessions and pools for event loops, asyncio's and trio's (extra `async`). What they mean is said where the
blocking ones are; here is how an event loop waits for them."""
