"""`python -m proxybox.cli`: the command line without its script."""

import sys

from proxybox.cli import main

sys.exit(main())
