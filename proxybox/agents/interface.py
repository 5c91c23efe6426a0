"""The names that an adapter of an agents' library may import from proxybox, besides `proxybox` and `proxybox.policies`.

Each adapter is one module here. Nothing in proxybox imports it: the user of the library does, or the library itself by
an entry point (inspect_ai). To remove an adapter, delete its file, its tests and its line in pyproject.toml.
"""

from proxybox.agents.samplefolder import SampleFolder as SampleFolder
from proxybox.agents.tool import CODE as CODE
from proxybox.agents.tool import NAME as NAME
from proxybox.agents.tool import SCHEMA as SCHEMA
from proxybox.agents.tool import AsyncPythonTool as AsyncPythonTool
from proxybox.agents.tool import PythonTool as PythonTool
from proxybox.agents.tool import ToolResult as ToolResult
from proxybox.argumentchecks import arguments as arguments
from proxybox.controller.guests.programs import guest_folder as guest_folder
from proxybox.modelsummary import MOST as MOST
from proxybox.modelsummary import NOTHING as NOTHING
from proxybox.modelsummary import marked as marked
from proxybox.modelsummary import remarks as remarks
from proxybox.modelsummary import safe as safe
from proxybox.policies.sizes import spoken_size as spoken_size
from proxybox.program import BOX as BOX
from proxybox.sandbox import policy_of_run as policy_of_run
from proxybox.terminal.harmless import harmless as harmless
