"""jupyter-kernel-test's whole suite: every kind of request, none of its tests skipped."""
# ruff: noqa: RUF012 - samples are class attributes there

import sys

import pytest

with pytest.MonkeyPatch.context() as patch:
    # With rfc3987_syntax, jsonschema compiles grammars of addresses: one second in each process that collects tests.
    patch.setitem(sys.modules, "rfc3987_syntax", None)
    import jupyter_kernel_test

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


class TestKernel(jupyter_kernel_test.KernelTests):
    kernel_name = "proxybox"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples = [
        {"text": "zi", "matches": ["zip"]},
        {"text": "''.upp", "matches": []},
        {"text": "import itertoo", "matches": ["itertools"]},
    ]
    complete_code_samples = ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n"]
    incomplete_code_samples = ["print('''hello", "def f(x):\n  x*2", "for i in range(3):"]
    invalid_code_samples = ["import = 7q", "1 +* 2", ")"]
    code_page_something = "zip?"
    code_generate_error = "raise ValueError('wrong')"
    code_execute_result = [
        {"code": "6*7", "result": "42"},
        {"code": "'a' + 'b'", "result": "'ab'"},
        {"code": "3*3*3", "result": "27"},
    ]
    code_display_data = [
        {"code": "display('shown')", "mime": "text/plain"},
        {"code": "display({'image/svg+xml': '<svg/>'}, raw=True)", "mime": "image/svg+xml"},
        {"code": "display({'image/png': b'\\x89PNG\\r\\n\\x1a\\n'}, raw=True)", "mime": "image/png"},
    ]
    code_history_pattern = "6?7*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "zip"
    code_clear_output = "clear_output()"


class TestWelcome(jupyter_kernel_test.IopubWelcomeTests):
    kernel_name = "proxybox"
    support_iopub_welcome = True
