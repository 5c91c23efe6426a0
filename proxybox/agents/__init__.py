"""Python for agents: tools and executors of other libraries whose code runs in boxes.

Rules: each library has one module here, which is imported only where that library is installed, and which names its
package. Only proxybox/modelsummary.py and proxybox/explanations.py have texts for models. A model's code never runs
outside a box: tools of the caller run on the trusted side as host functions, with plain data.
"""

from proxybox.agents.tool import AsyncPythonTool as AsyncPythonTool
from proxybox.agents.tool import PythonTool as PythonTool
from proxybox.modelsummary import told as told

__all__ = ["AsyncPythonTool", "PythonTool", "told"]
