"""Runs one module of the standard library's tests under its own runner, and records each test method at once.

Runs bare and boxed: `recorder.py LOG MODULE [IGNORE]`. LOG gets one JSON object per line: {"start": test} before a
method, {"end": test, "outcome": ..., "text": ...} after it. IGNORE is a file with tests to leave out, one per line.
The log is written by single writes, so that it is complete up to the moment at which an interpreter is killed.
"""

import json
import os
import sys

LOG, MODULE, *IGNORE = sys.argv[1:]
LOG = os.path.abspath(LOG)
_PID = os.getpid()


def note(**record):
    if os.getpid() != _PID:  # a forked child of a test
        return
    line = json.dumps(record).encode() + b"\n"
    fd = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)


def name_of(test):
    """Returns the full name of a method; setUpClass and setUpModule have other ids."""
    name = test.id()
    return name.split(" ")[0] if name.startswith("test.") else name


def recording(result_class):
    class Recording(result_class):
        def startTest(self, test):
            self.verdict = None
            note(start=name_of(test))
            super().startTest(test)

        def stopTest(self, test):
            super().stopTest(test)
            outcome, text = self.verdict or ("passed", "")
            note(end=name_of(test), outcome=outcome, text=text)

        def record(self, test, outcome, text):
            if hasattr(test, "test_case"):  # part of a method: a part that is skipped does not count
                if outcome != "skipped":
                    self.verdict = (outcome, text)
            elif hasattr(test, "_testMethodName"):
                if self.verdict is None or outcome in ("failed", "error"):
                    self.verdict = (outcome, text)
            else:  # a class or a module that could not be set up
                note(end=name_of(test), outcome=outcome, text=text)

        def addError(self, test, err):
            self.record(test, "error", self._exc_info_to_string(err, test))
            super().addError(test, err)

        def addFailure(self, test, err):
            self.record(test, "failed", self._exc_info_to_string(err, test))
            super().addFailure(test, err)

        def addSubTest(self, test, subtest, err):
            if err is not None:
                self.record(test, "failed", self._exc_info_to_string(err, test))
            super().addSubTest(test, subtest, err)

        def addSkip(self, test, reason):
            self.record(test, "skipped", str(reason))
            super().addSkip(test, reason)

        def addExpectedFailure(self, test, err):
            self.record(test, "passed", "")
            super().addExpectedFailure(test, err)

        def addUnexpectedSuccess(self, test):
            self.record(test, "failed", "unexpected success")
            super().addUnexpectedSuccess(test)

    return Recording


def main():
    from test.libregrtest import main as regrtest
    from test.libregrtest import testresult

    testresult.RegressionTestResult = recording(testresult.RegressionTestResult)
    sys.argv = ["regrtest", "-q", MODULE]
    if IGNORE:
        sys.argv[1:1] = ["--ignorefile", os.path.abspath(IGNORE[0])]
    try:
        regrtest.main()
    except SystemExit:
        pass
    finally:
        note(done=MODULE)


if __name__ == "__main__":
    main()
