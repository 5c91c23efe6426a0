"""The modules that importing policies loads: every start imports them."""

import subprocess
import sys

PROGRAM = """
import sys
import proxybox.policies as policies
from proxybox.policies import Limits, evolve, preset
for name in policies.PRESETS:
    evolve(preset(name), limits={"wall_time": 3}, time="virtual")
slow = {"tomllib", "cattrs", "difflib", "json"} & set(sys.modules)
ours = [name for name in sys.modules if name.startswith("proxybox.") and "policies" not in name]
assert not slow and not ours, (slow, ours)
assert policies.from_toml("") == policies.Policy()
assert policies.explain_text(policies.Policy())
try:
    policies.nonsense
except AttributeError as error:
    assert "nonsense" in str(error)
"""


def test_the_usual_way_loads_neither_toml_nor_cattrs():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
