"""Makes `from tests.seal import ...` work in whichever way pytest was started."""

import sys
from pathlib import Path

_root = str(Path(__file__).parents[2])
if _root not in sys.path:
    sys.path.insert(0, _root)
