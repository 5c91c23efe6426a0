"""What guests cost the host: CPU time, steps of a call, descriptors.

These costs are counted and limited here for each box, whatever causes them.
"""
