"""`ctypes.util.find_library`, which crypt, dbm and many bindings need: it reads the loader's cache and starts no
process.
"""

import struct
import subprocess

import proxybox
from proxybox.controller.guests.finding import find_guest
from proxybox.controller.vfs.pseudo.loadercache import visible_cache

NAMES = ("c", "m", "crypt", "z", "ssl", "no-such-library")
PROGRAM = f"""
import ctypes, ctypes.util
for name in {NAMES}:
    print(name, ctypes.util.find_library(name))
"""


def test_a_box_finds_the_libraries_that_bare_pypy_finds() -> None:
    bare = subprocess.run([find_guest().executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    boxed = proxybox.run(PROGRAM + "ctypes.CDLL(ctypes.util.find_library('z'))\n", on_denied="end")
    assert (boxed.status, boxed.stdout) == ("ok", bare.stdout), boxed.stderr
    assert "libc.so.6" in boxed.stdout
    assert "no-such-library None" in boxed.stdout


def cache(*entries: tuple[bytes, bytes, int, int]) -> bytes:
    """The text of a cache file as ldconfig writes it."""
    strings, rows = b"", b""
    for name, path, flags, processors in entries:
        at = 48 + 24 * len(entries) + len(strings)
        rows += struct.pack("<iIIIQ", flags, at, at + len(name) + 1, 0, processors)
        strings += name + b"\0" + path + b"\0"
    return struct.pack("<20sIIB3xI12x", b"glibc-ld.so.cache1.1", len(entries), len(strings), 2, 0) + rows + strings


def test_no_path_is_told_that_a_box_does_not_see() -> None:
    host = cache(
        (b"liba.so", b"/lib/here/liba.so", 0x303, 0),
        (b"libsecret.so", b"/opt/secret/libsecret.so", 0x303, 0),
        (b"libup.so", b"/usr/lib/here/../../secret/libup.so", 0x303, 0),
        (b"lib32.so", b"/usr/lib/here/lib32.so", 3, 0),
        (b"libfast.so", b"/usr/lib/here/glibc-hwcaps/libfast.so", 0x303, 1 << 62),
        (b"libb.so.1", b"/usr/lib/here/libb.so", 0x303, 0),
    )
    seen = visible_cache(host, ("/usr/lib/here",))
    assert seen.count(b"/") == seen.count(b"/lib/here/liba.so\0") * 3 + seen.count(b"/usr/lib/here/libb.so\0") * 4
    assert b"secret" not in seen
    assert b"libb.so.1\0" in seen
    assert struct.unpack_from("<I", seen, 20) == (2,)
    assert visible_cache(b"ld.so-1.7.0" + bytes(20) + host, ("/usr/lib/here",)) == seen


def test_what_is_no_cache_names_nothing() -> None:
    whole = cache((b"liba.so", b"/usr/lib/liba.so", 0x303, 0))
    for cut in range(len(whole)):
        assert struct.unpack_from("<I", visible_cache(whole[:cut], ("/usr/lib",)), 20)[0] == 0
