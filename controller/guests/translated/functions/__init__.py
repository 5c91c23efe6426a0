"""Functions of libc that are more than an OS call of the same arguments. Importing this fills libc.FUNCTIONS.

They bear the names of libc's, which their manual pages describe. Structures are those of x86-64 glibc, which are the
kernel's except for statvfs.
"""

from proxybox.controller.guests.translated.functions import calls as calls
from proxybox.controller.guests.translated.functions import environment as environment
from proxybox.controller.guests.translated.functions import folders as folders
from proxybox.controller.guests.translated.functions import rpython as rpython
from proxybox.controller.guests.translated.functions import system as system
from proxybox.controller.guests.translated.functions import terminals as terminals
