"""Deletes and overwrites what it finds beside itself. In a box only the box's copy is changed."""

import os

for name in os.listdir("."):
    if os.path.isfile(name):
        with open(name, "w") as file:
            file.write("gone\n")
        os.remove(name)
        print(f"removed {name}")
print("left:", os.listdir("."))
