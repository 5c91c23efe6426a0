"""A request, which a box refuses."""

import requests

try:
    requests.get("https://example.org", timeout=5)
except requests.ConnectionError as error:
    print(type(error).__name__, error)
