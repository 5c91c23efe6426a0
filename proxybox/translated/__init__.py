"""Installs and builds the third kind of guest, a PyPy translated with --sandbox: `proxybox guests install`, `build`.

How this guest runs is described in proxybox.controller.guests.translated.
"""
