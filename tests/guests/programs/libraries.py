"""Much of the standard library, a little of each."""

import ast
import base64
import bz2
import collections
import configparser
import contextvars
import copy
import csv
import dataclasses
import difflib
import dis
import email.message
import enum
import functools
import gzip
import hashlib
import heapq
import hmac
import html.parser
import inspect
import io
import ipaddress
import itertools
import json
import logging
import lzma
import marshal
import operator
import pickle
import platform
import pprint
import re
import sqlite3
import ssl
import string
import struct
import sys
import textwrap
import tomllib
import traceback
import types
import typing
import unittest
import urllib.parse
import warnings
import weakref
import xml.etree.ElementTree as ET
import zlib

data = b"the quick brown fox " * 100
for module in (zlib, bz2, lzma, gzip):
    print(module.__name__, module.decompress(module.compress(data)) == data)
print(hashlib.sha256(data).hexdigest()[:16], hashlib.blake2b(data).hexdigest()[:16], hmac.new(b"k", data, "md5").hexdigest()[:16])
print(sorted(hashlib.algorithms_guaranteed)[:3], hashlib.pbkdf2_hmac("sha1", b"p", b"s", 1000).hex()[:10], hashlib.scrypt(b"p", salt=b"s", n=2, r=8, p=1).hex()[:10])
print(json.loads(json.dumps({"a": [1, None, True, 1.5, "é"]})), pickle.loads(pickle.dumps({1, 2})), marshal.loads(marshal.dumps((1, "x"))))
print(re.sub(r"(\w+) (\w+)", r"\2 \1", "hello world"), re.findall(r"(?<=a)b+", "abb cab"), string.Template("$x").substitute(x=1))
print(struct.unpack("<iHd", struct.pack("<iHd", -1, 65535, 0.5)), base64.b85encode(b"data"), urllib.parse.urlsplit("http://u@h:80/p?q#f"))
connection = sqlite3.connect(":memory:")
connection.create_function("twice", 1, lambda n: n * 2)
print(connection.execute("select twice(21), upper('x'), json_extract('{\"a\": 5}', '$.a')").fetchall())
print(ssl.OPENSSL_VERSION.split()[0], ssl.create_default_context().get_ca_certs() is not None)
root = ET.fromstring("<a><b c='1'>t</b><b/></a>")
print(ET.tostring(root), [e.tag for e in root.iter()])
print(ipaddress.ip_network("10.0.0.0/29").num_addresses, tomllib.loads("a = [1, 2]"), textwrap.shorten("many words here", 10))
config = configparser.ConfigParser()
config.read_string("[s]\nk = v\n")
print(config["s"]["k"], list(csv.reader(io.StringIO('a,"b,c"\n'))), difflib.get_close_matches("aple", ["apple", "pear"]))


@dataclasses.dataclass(order=True)
class Point:
    x: int
    y: int = 0


class Colour(enum.Flag):
    RED = enum.auto()
    BLUE = enum.auto()


print(sorted([Point(2), Point(1, 5)]), Colour.RED | Colour.BLUE, copy.deepcopy(Point(3)), typing.get_type_hints(Point))
print(functools.reduce(operator.mul, range(1, 6)), heapq.nsmallest(2, [3, 1, 2]), list(itertools.pairwise("abc")))
print(ast.unparse(ast.parse("x=1+2")), inspect.signature(lambda a, *, b=1: 0), len(list(dis.get_instructions("a + b"))) > 2)
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
logging.getLogger("here").warning("%d things", 3)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    warnings.warn("old", DeprecationWarning)
print([str(each.message) for each in caught])
try:
    raise KeyError("k") from ValueError("v")
except KeyError:
    print(len(traceback.format_exc().splitlines()) > 5)
message = email.message.EmailMessage()
message["Subject"] = "Grüße"
message.set_content("text")
print(message.as_bytes()[:40], html.unescape("&lt;&eacute;"), pprint.pformat({"b": 1, "a": 2}))
variable = contextvars.ContextVar("v", default=1)
print(contextvars.copy_context().run(variable.set, 5) is not None, variable.get(), weakref.ref(Point)() is Point)
print(platform.python_implementation(), platform.system(), platform.machine(), sys.version_info[:2] >= (3, 9), types.SimpleNamespace(a=1))


class Test(unittest.TestCase):
    def test(self):
        self.assertEqual(collections.Counter("aab")["a"], 2)


print(unittest.TextTestRunner(io.StringIO()).run(Test("test")).wasSuccessful())
