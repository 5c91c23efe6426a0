"""Messages between the Python code of a guest and its caller.

values.py: plain values as bytes. hostfunctions.py: functions of the caller that the guest may call. port.py: the one OS
call that carries all of it.
"""
