"""`python -P -m proxybox`: the command line without its script. Without -P, modules of the current folder go before
these, a proxybox.py of its own too."""

import sys

from proxybox.cli import main

sys.exit(main())
