"""JSON, encoded and decoded."""

import orjson

print(orjson.loads(orjson.dumps({"a": [1, 2.5, None]})))
