"""`python -P -m proxybox`: the command line without its script.

Without -P, modules of the current folder are found before installed ones, so a proxybox.py there would run instead.
"""

import sys

from proxybox.cli import main

sys.exit(main())
