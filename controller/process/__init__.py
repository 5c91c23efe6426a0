"""One guest process: its start, its limits, its threads and copies (fork(2)), and its end."""
