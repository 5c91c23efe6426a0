"""The old name of zygotepool.py: documentation has named `proxybox.controller.warm.nursery.close()`."""

from proxybox.controller.warm.zygotepool import close as close
