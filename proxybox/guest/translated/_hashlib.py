"""OpenSSL's functions: none. So hashlib uses those in Python, without a warning."""

openssl_md_meth_names = frozenset()


def new(name, string=b""):
    raise ValueError("unsupported hash type " + name)
