"""Standard input and output, arguments, environment, exit status and atexit."""

import atexit
import os
import sys

print(sys.argv[1:], sys.stdin.isatty(), sys.stdout.isatty(), sys.stdin.encoding, sys.stdout.encoding)
print(input("prompt: "))
print(repr(sys.stdin.readline()), repr(sys.stdin.buffer.read(5)), [line for line in sys.stdin])
print(repr(sys.stdin.read()))
try:
    input()
except EOFError:
    print("end of input")
print("to standard error", file=sys.stderr)
os.write(1, b"unbuffered\n")
sys.stdout.flush()
copy = os.dup(1)
sys.stdout.flush()
os.write(copy, b"by a copy\n")
print("stat", oct(os.fstat(copy).st_mode & 0o170000) in ("0o10000", "0o100000", "0o140000"))
os.close(copy)
print(os.environ.get("HOME") == os.path.expanduser("~"), "PATH" in os.environ, os.getcwd() == os.path.dirname(os.path.abspath(__file__)))
for stream in (0, 1, 2):
    try:
        os.lseek(stream, 0, os.SEEK_CUR)
        print("seekable")
    except OSError as error:
        print(error.strerror)


@atexit.register
def last():
    print("last words")


atexit.register(print, "first words", flush=True)


class Final:
    def __del__(self):
        os.write(1, b"finalised\n")


Final().__del__()
sys.exit(23)
