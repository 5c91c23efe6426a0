"""Installs and builds the third kind of guest, a PyPy translated with --sandbox: `proxybox guests install`, `build`.

What it is once it runs stands in proxybox.controller.guests.translated.
"""
