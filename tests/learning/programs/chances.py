"""Uses randomness of several kinds."""

import random
import secrets
import uuid

print(random.random(), uuid.uuid4(), secrets.token_hex(8))
