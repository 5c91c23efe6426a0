"""The interactive prompt: Python as in a terminal, but each line runs in a box.

    console.py    the state of the prompt: the session, its branches and snapshots, the blocks; no terminal
    commands.py   the % commands, one function each
    screen.py     the only way to the terminal: text from a box is made harmless there
    prompt.py     the keys, completion, history and the bar at the bottom (prompt_toolkit)
    loop.py       reads, runs, shows; Ctrl-C

It uses the public API alone (`proxybox.Session`), and trusts nothing that a session says.
"""
