"""/etc/ld.so.cache as a box sees it, and `ctypes.util`, which reads it there.

The host's cache (ldconfig(8)) names every library of the host. A box's cache names only those in folders that the box
sees, and `ctypes.util.find_library` searches this cache. Outside of a box, that function runs ldconfig, gcc and ld, but
a box starts no process.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Final

#: glibc's dl-cache.h: struct cache_file_new and struct file_entry_new.
_MAGIC: Final = b"glibc-ld.so.cache1.1"
_HEAD: Final = struct.Struct("<20sIIB3xI12x")
_ENTRY: Final = struct.Struct("<iIIIQ")
_X86_64: Final = 0x0303  # libc6,x86-64
_LITTLE_ENDIAN: Final = 2
_MOST: Final = 1 << 16

#: Added at the end of the library's `ctypes/util.py`. The first match in the cache is what `ldconfig -p` lists first.
_FIND: Final = b"""

# In a box no process can be started: what the loader's cache says is read here, and nobody else is asked.
def _findSoname_ldconfig(name):
    import struct
    try:
        with open("/etc/ld.so.cache", "rb") as cache:
            data = cache.read()
        count, = struct.unpack_from("<I", data, 20)
        for number in range(count):
            flags, key = struct.unpack_from("<iI", data, 48 + 24 * number)
            found = data[key:data.index(b"\\0", key)]
            if re.fullmatch(os.fsencode(r"lib%s\\.\\S+" % re.escape(name)), found):
                return os.fsdecode(found)
    except (OSError, ValueError, struct.error):
        pass

def _findLib_gcc(name):
    return None

_findLib_ld = _findLib_gcc
"""


def visible_cache(data: bytes, folders: Iterable[str]) -> bytes:
    """A cache with those entries of `data` that lead into `folders`, in order; with none when `data` is invalid."""
    inside = tuple(f"{folder}/".encode() for folder in folders)
    visible = [(name, path) for name, path in _entries(data) if _unlinked(path).startswith(inside)]
    start = _HEAD.size + _ENTRY.size * len(visible)
    strings, entries = bytearray(), bytearray()
    for name, path in visible:
        value = start + len(strings)
        strings += path + b"\0"
        key = value + len(path) - len(name)  # the name is nearly always the end of the path
        if not path.endswith(name):
            key = start + len(strings)
            strings += name + b"\0"
        entries += _ENTRY.pack(_X86_64, key, value, 0, 0)
    return _HEAD.pack(_MAGIC, len(visible), len(strings), _LITTLE_ENDIAN, 0) + entries + strings


def _entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The names and paths of a cache, without libraries that are only for some processors."""
    start = data.find(_MAGIC)  # some caches begin with one in the older format
    if start < 0 or len(data) < start + _HEAD.size:
        return
    count = min(_HEAD.unpack_from(data, start)[1], _MOST, (len(data) - start - _HEAD.size) // _ENTRY.size)
    for number in range(count):
        flags, key, value, _, processors = _ENTRY.unpack_from(data, start + _HEAD.size + _ENTRY.size * number)
        name, path = (_text(data, start + at) for at in (key, value))
        if flags == _X86_64 and not processors and name and path and b"/../" not in path:
            yield name, path


def _text(data: bytes, at: int) -> bytes:
    end = data.find(b"\0", at)
    return b"" if end < 0 else data[at:end]


def _unlinked(path: bytes) -> bytes:
    """The path with /usr before /lib and /lib64, which are links into /usr in a box."""
    return b"/usr" + path if path.startswith((b"/lib/", b"/lib64/")) else path


def without_processes(source: bytes) -> bytes:
    """The source of `ctypes/util.py` in a box."""
    return source + _FIND if b"def _findSoname_ldconfig(" in source else source
