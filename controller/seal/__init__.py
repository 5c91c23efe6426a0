"""The seal: the system calls that a guest may still make, and the layers that limit the damage if the seal has a hole.

filters.py has the filter; inspection.py checks from outside that it is in force; layers.py and cgroups.py are about the
layers around it. confinement.py is for helpers of the trusted side. Nothing here serves a call.
"""
