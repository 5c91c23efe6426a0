"""random, uuid, secrets, os.urandom: results that are the same in any world."""

import os
import random
import secrets
import tempfile
import uuid

random.seed(12345)
print(random.random(), random.randrange(10**20), random.choices("abc", k=5), random.sample(range(100), 5))
state = random.getstate()
first = [random.gauss(0, 1) for _ in range(3)]
random.setstate(state)
print(first == [random.gauss(0, 1) for _ in range(3)], random.Random("text").getrandbits(64))
items = list(range(10))
random.shuffle(items)
print(items)

print(len(os.urandom(100)), os.urandom(16) != os.urandom(16), os.urandom(0))
print(len(os.urandom(1_000_000)), len(set(os.urandom(4096))) > 200)
with open("/dev/urandom", "rb") as file:
    print(len(file.read(50)))
with open("/dev/random", "rb", buffering=0) as file:
    print(len(file.read(16)))
print(len(secrets.token_hex(8)), secrets.randbelow(1), secrets.compare_digest("a", "a"), len(secrets.token_urlsafe(16)) >= 21)
one, other = uuid.uuid4(), uuid.uuid4()
print(one != other, one.version, one.variant, uuid.UUID(str(one)) == one)
print(uuid.uuid5(uuid.NAMESPACE_DNS, "example.org"), uuid.uuid3(uuid.NAMESPACE_URL, "x"), uuid.uuid1().version)
print(random.SystemRandom().random() < 1, len({tempfile.mktemp() for _ in range(50)}))
print(hash("text") == hash("text"), len({object(): 1}), {1, 2, 3} == {3, 2, 1})
