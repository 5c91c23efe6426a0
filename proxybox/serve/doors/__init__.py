"""The doors of the service, one file for each protocol: a body in, a run of the service, a body out.

Rule: a door has no way of its own to a box. It asks the `Service`, and turns a `Refusal` into what its clients know.
"""
