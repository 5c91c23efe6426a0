"""Text, encodings, and file names that are not UTF-8."""

import codecs
import io
import locale
import os
import sys
import tempfile
import unicodedata

print(sys.getdefaultencoding(), sys.getfilesystemencoding(), sys.getfilesystemencodeerrors(), locale.getpreferredencoding())
text = "naïve café — 日本語 🎉 \x00 end"
for encoding in ("utf-8", "utf-16", "utf-32-le", "utf-7", "latin-1", "cp1252", "shift_jis", "gb18030", "big5", "euc_kr", "idna", "punycode"):
    sample = {"latin-1": "naïve café", "cp1252": "café — €", "shift_jis": "日本語", "big5": "中文", "euc_kr": "한국어", "idna": "bücher.de"}.get(encoding, text)
    data = sample.encode(encoding)
    print(encoding, len(data), data.decode(encoding) == sample)
print(b"\xff\xfe\x80".decode("utf-8", "replace"), "€".encode("ascii", "xmlcharrefreplace"), "é".encode("ascii", "namereplace"))
print(unicodedata.normalize("NFD", "é").encode(), unicodedata.name("🎉"), unicodedata.category("日"))
print(codecs.encode("hello", "rot13"), codecs.encode(b"hello", "base64"), codecs.decode("68656c6c6f", "hex"))

os.chdir(tempfile.mkdtemp())
names = [b"plain", b"caf\xc3\xa9", b"latin-\xe9", b"new\nline", b"\xff\xfe", "日本".encode(), b" space ", b"-dash", b"*?[x]", b"\\back"]
for name in names:
    with open(name, "wb") as file:
        file.write(name)
print(sorted(os.listdir(b".")) == sorted(names), sorted(map(ascii, os.listdir("."))))
for name in os.listdir("."):
    assert open(name, "rb").read() == os.fsencode(name)
os.symlink(b"latin-\xe9", b"link-\xe9")
print(os.readlink(b"link-\xe9"), ascii(os.readlink("link-\udce9")), os.path.exists("link-\udce9"))
os.mkdir(b"dir-\xfc")
os.chdir(b"dir-\xfc")
print(ascii(os.path.basename(os.getcwd())), os.path.basename(os.getcwdb()))
try:
    open("a\0b")
except ValueError as error:
    print(type(error).__name__)
os.environ["VARIABLE-\udce9"] = "välue-\udcff"
print(os.environb[b"VARIABLE-\xe9"])

with open("text", "w", encoding="utf-16", newline="\r\n") as file:
    file.write("one\ntwo\n")
print(open("text", "rb").read(), repr(open("text", encoding="utf-16").read()))
with open("bom", "w", encoding="utf-8-sig") as file:
    file.write("x")
print(open("bom", "rb").read(), [open("bom", encoding=e).read() for e in ("utf-8", "utf-8-sig")])
stream = io.TextIOWrapper(io.BytesIO(b"a\rb\r\nc\n"), newline=None)
print(list(stream), stream.newlines)
print("to standard output: naïve 日本語 🎉")
sys.stdout.buffer.write(b"raw \xff\x80 bytes\n")
