"""Takes all the memory there is, and keeps it."""

hoard = []
try:
    while True:
        hoard.append(bytearray(16 << 20))
except MemoryError:
    print(f"MemoryError after {len(hoard) * 16} MiB")
