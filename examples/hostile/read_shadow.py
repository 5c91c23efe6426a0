"""Looks for secrets: the password file, keys, the environment, other processes."""

import os

for path in ("/etc/shadow", "/root/.ssh/id_rsa", "/home", "../../../../../../etc/shadow"):
    try:
        found = os.listdir(path) if os.path.isdir(path) else open(path).read()[:40]
        print(f"{path}: {found!r}")
    except OSError as error:
        print(f"{path}: {error.strerror}")

print("processes:", sorted(name for name in os.listdir("/proc") if name.isdigit()))
print("I am", os.getuid(), "on", os.uname().nodename, "with", len(os.environ), "variables")
