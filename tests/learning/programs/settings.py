"""Reads its settings from the home folder."""

import json
import os

with open(os.path.expanduser("~/.config/app/settings.json")) as file:
    settings = json.load(file)
print("colour", settings["colour"])
