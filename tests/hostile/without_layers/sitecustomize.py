"""Removes the outer layers of boxes in every Python that tests start with --layers=off."""

from proxybox.controller.seal import layers

layers.USED.clear()
