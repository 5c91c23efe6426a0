"""Functions of libc that are more than an OS call of the same arguments. Importing this fills libc.FUNCTIONS.

They have the names of libc's functions, which are in man pages of section 3. Structures are those of x86-64 glibc,
which are the kernel's except for statvfs.
"""

from proxybox.controller.guests.translated.functions import calls as calls
from proxybox.controller.guests.translated.functions import environment as environment
from proxybox.controller.guests.translated.functions import folders as folders
from proxybox.controller.guests.translated.functions import rpython as rpython
from proxybox.controller.guests.translated.functions import system as system
from proxybox.controller.guests.translated.functions import terminals as terminals
