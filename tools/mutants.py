"""Changes one place of a function at a time, and counts the changes ("mutants") that no test notices.

`make mutants` runs it, in a copy of the sources. cosmic-ray finds the places and their changes; one change is chosen
for each place. pytest collects the tests once. Each mutant is a fork of that process, in which the code of one function
is replaced. It runs tests that execute the line until one fails: first those that have found other mutants, then the
fastest ones.

Code outside of functions (constants, fields, decorators) is not changed: modules would have to be imported again. Code
that runs in another program, or only while tests are collected, cannot be tested in this way.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import gc
import importlib
import itertools
import json
import os
import random
import resource
import signal
import tempfile
import time
import types
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import coverage
import parso
import pytest
from cosmic_ray.ast import Visitor, ast_nodes
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider

# cosmic-ray's operators: for each sign its opposite, because most others change nothing ("is" for "==", "+" for "|").
_SIGNS = {
    "Eq_NotEq", "NotEq_Eq", "Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt", "Is_IsNot",
    "IsNot_Is", "Add_Sub", "Sub_Add", "Mul_FloorDiv", "Div_Mul", "FloorDiv_Mul", "Mod_Mul", "RShift_LShift",
    "LShift_RShift", "BitOr_BitAnd", "BitAnd_BitOr", "BitXor_BitAnd", "Delete_USub", "Delete_Invert", "Delete_Not",
}  # fmt: skip
_WORDS = {
    "AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer",
    "ZeroIterationForLoop",
}  # fmt: skip
_SECONDS = 6.0  # the most time of tests for one mutant, measured without a change
_HEADS = ("--", "++", "@@")  # of a diff
_ARGUMENTS = 5  # the most sets of arguments of one test
_SURVIVED, _NO_CHANGE = 77, 78
_ENDS = {_SURVIVED: "survived", _NO_CHANGE: ""}  # exit statuses of a mutant; with any other one, a test has failed
_TOP = Path(__file__).resolve().parent.parent


class LeaveOutStatement(Operator):
    """Replaces a call whose value is not used, or a `raise`, by `pass`: as if a check had been forgotten."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Yields the positions at which `mutate` may be called."""
        if node.type == "simple_stmt":
            first = node.children[0]
            if first.type == "raise_stmt" or (
                first.type in ("atom_expr", "power") and first.children[-1].type == "trailer"
            ):
                yield first.start_pos, first.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Returns the statement without its effect."""
        node.children[0] = parso.parse(node.get_first_leaf().prefix + "pass").children[0]
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        """Returns no examples."""
        return ()


@attrs.frozen
class CodeMutant:
    """One change. line, end: the first and last line of the statement that it changes."""

    file: str
    line: int
    end: int
    operator: str
    occurrence: int
    column: int


_FIELDS = [each.name for each in attrs.fields(CodeMutant)]


class _Apply(Visitor):  # type: ignore[misc]
    def __init__(self, operator: Operator, occurrence: int) -> None:
        self.operator, self.left = operator, occurrence

    def visit(self, node: Any) -> Any:
        for index, _ in enumerate(self.operator.mutation_positions(node)):
            if self.left == 0:
                node = self.operator.mutate(node, index)
            self.left -= 1
        return node


def _operators() -> dict[str, Operator]:
    provider = OperatorProvider()
    chosen = {name: provider[name]() for name in provider if name in _WORDS or name.partition("_")[2] in _SIGNS}
    return {**chosen, "LeaveOutStatement": LeaveOutStatement()}


def _statement(tree: Any, position: tuple[int, int]) -> tuple[int, int]:
    """Returns the lines of the simple statement at a position, or of the head of a compound one."""
    leaf = node = tree.get_leaf_for_position(position, include_prefixes=True)
    while node.parent is not None and node.type not in ("simple_stmt", "expr_stmt", "return_stmt"):
        parent = node.parent
        if parent.type in (
            "suite",
            "file_input",
            "if_stmt",
            "while_stmt",
            "for_stmt",
            "with_stmt",
            "try_stmt",
            "funcdef",
        ):
            break
        node = parent
    return node.start_pos[0], max(node.end_pos[0] - (node.end_pos[1] == 0), leaf.start_pos[0])


def mutants_of(file: str, choice: random.Random) -> list[CodeMutant]:
    """Returns one change for each place of a file, chosen at random if cosmic-ray has several."""
    tree = parso.parse((_TOP / file).read_text())
    places: dict[tuple[Any, str], list[CodeMutant]] = defaultdict(list)
    nodes = list(ast_nodes(tree))
    for name, operator in _operators().items():
        occurrence = 0
        for node in nodes:
            for start, _ in operator.mutation_positions(node):
                line, end = _statement(tree, start)
                family = name.partition("_")[0]
                places[start, family].append(CodeMutant(file, line, end, name, occurrence, start[1]))
                occurrence += 1
    return [choice.choice(several) for _, several in sorted(places.items())]


def changed_source(mutant: CodeMutant) -> str:
    """Returns the source of the file with the mutant."""
    tree = parso.parse((_TOP / mutant.file).read_text())
    changed = _Apply(_operators()[mutant.operator], mutant.occurrence).walk(tree)
    return str(changed.get_code())


def _codes(code: types.CodeType, top: bool = True) -> Iterator[types.CodeType]:
    if not top:
        yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant, False)


def _differ(old: types.CodeType, new: types.CodeType) -> bool:
    def facts(code: types.CodeType) -> tuple[Any, ...]:
        constants = [(type(each), each) for each in code.co_consts if not isinstance(each, types.CodeType)]
        return code.co_code, repr(constants), code.co_names, code.co_exceptiontable

    inner = [[each for each in code.co_consts if isinstance(each, types.CodeType)] for code in (old, new)]
    return facts(old) != facts(new) or any(_differ(*pair) for pair in zip(*inner, strict=False))


class Runner:
    """A pytest plugin that runs mutants in place of the tests."""

    def __init__(self, mutants: list[CodeMutant], workers: int, report: Path) -> None:
        self.mutants, self.workers, self.report = mutants, workers, report
        self.functions: dict[tuple[str, str, int], list[types.FunctionType]] = defaultdict(list)
        self.tests: dict[str, dict[int, list[str]]] = {}
        self.seconds: dict[str, float] = {}
        self.notice: Counter[str] = Counter()  # how many mutants each test has killed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Replaces pytest's own loop."""
        self.items = {item.nodeid: item for item in session.items}
        self._measure(session)
        gc.unfreeze()
        for each in gc.get_objects():
            if isinstance(each, types.FunctionType):
                code = each.__code__
                key = (os.path.realpath(code.co_filename), code.co_qualname, code.co_firstlineno)
                self.functions[key].append(each)
        gc.freeze()
        self._run(session)
        with warnings.catch_warnings(action="ignore"):  # its plugin imports it later, while a warning is an error
            importlib.import_module("hypothesis")
        return True

    def _measure(self, session: pytest.Session) -> None:
        """Measures which tests execute which lines, and how long they take."""
        made = self.report.with_suffix(".map")
        if not made.exists():
            pid = os.fork()
            if not pid:
                self._measured(session, made)
            os.waitpid(pid, 0)
        found = json.loads(made.read_text())
        self.seconds = found["seconds"]
        self.tests = {
            file: {int(line): names for line, names in lines.items()} for file, lines in found["tests"].items()
        }

    def _measured(self, session: pytest.Session, made: Path) -> None:
        seconds: Counter[str] = Counter()
        files = sorted({str(_TOP / mutant.file) for mutant in self.mutants})
        measure = coverage.Coverage(data_file=None, include=files)
        measure.start()
        for at, item in enumerate(session.items):
            following = session.items[at + 1] if at + 1 < len(session.items) else None
            begun = time.monotonic()
            measure.switch_context(item.nodeid)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            seconds[item.nodeid] += time.monotonic() - begun
        measure.stop()
        data = measure.get_data()
        tests: dict[str, dict[int, list[str]]] = {}
        for file in data.measured_files():
            lines = data.contexts_by_lineno(file)
            tests[os.path.relpath(os.path.realpath(file), _TOP)] = {
                line: [*filter(None, names)] for line, names in lines.items()
            }
        made.write_text(json.dumps({"seconds": seconds, "tests": tests}))
        os._exit(0)

    def chosen(self, mutant: CodeMutant) -> list[str]:
        """Returns the tests for a mutant, the fastest ones first."""
        lines = self.tests.get(mutant.file, {})
        reach = {
            name for line in range(mutant.line, mutant.end + 1) for name in lines.get(line, ()) if name in self.items
        }
        chosen, left, families = [], _SECONDS, Counter[str]()
        for name in sorted(reach, key=lambda name: (self.seconds[name] / (1 + self.notice[name]), name)):
            family = name.partition("[")[0]
            families[family] += 1
            if families[family] <= _ARGUMENTS and (left > 0 or not chosen):
                left -= self.seconds[name]
                chosen.append(name)
        return chosen

    def replacements(self, mutant: CodeMutant) -> list[tuple[types.FunctionType, types.CodeType]] | None:
        """Returns the functions whose code changes; None if the change is in no function."""
        path = str((_TOP / mutant.file).resolve())
        try:
            new = compile(changed_source(mutant), path, "exec", dont_inherit=True)
        except (SyntaxError, AttributeError):  # cosmic-ray expects only names in an `except`
            return None
        old = compile((_TOP / mutant.file).read_text(), path, "exec", dont_inherit=True)
        changes = [
            (function, after)
            for before, after in zip(_codes(old), _codes(new), strict=False)
            if before.co_qualname == after.co_qualname and _differ(before, after)
            for function in self.functions.get((path, before.co_qualname, before.co_firstlineno), ())
        ]
        fits = all(function.__code__.co_freevars == after.co_freevars for function, after in changes)
        return changes if fits else None

    def _run(self, session: pytest.Session) -> None:
        running: dict[int, tuple[CodeMutant, float, int]] = {}
        waiting = [*reversed(self.mutants)]
        with self.report.open("a") as report:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    mutant = waiting.pop()
                    chosen = self.chosen(mutant)
                    limit = 10 + 3 * sum(self.seconds[name] for name in chosen)
                    running[self._forked(session, mutant, chosen)] = mutant, time.monotonic() + limit, len(chosen)
                time.sleep(0.005)
                for pid, (mutant, limit, tests) in [*running.items()]:
                    done, status = os.waitpid(pid, os.WNOHANG)
                    if not done and time.monotonic() < limit:
                        continue
                    del running[pid]
                    _end(pid)
                    if not done:
                        os.waitpid(pid, 0)
                    how = "time-out" if not done else _ENDS.get(os.waitstatus_to_exitcode(status), "killed")
                    failed = Path(f"{session.config.option.basetemp}/{pid}/failed")
                    by = failed.read_text() if failed.exists() else ""
                    self.notice[by] += 1
                    if how:
                        line = {**attrs.asdict(mutant), "how": how, "tests": tests, "by": by}
                        report.write(json.dumps(line) + "\n")
                        report.flush()

    def _forked(self, session: pytest.Session, mutant: CodeMutant, chosen: list[str]) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setsid()
            changes = self.replacements(mutant)
            if not changes:
                os._exit(_NO_CHANGE)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            folder = Path(f"{session.config.option.basetemp}/{os.getpid()}")
            folder.mkdir(parents=True)
            session.config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]
            nothing = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(nothing, number)
            session.config.pluginmanager.register(_EndsAtFailure(folder / "failed"))
            for function, code in changes:
                function.__code__ = code
            items = [self.items[name] for name in chosen]
            for item, following in itertools.zip_longest(items, items[1:]):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            os._exit(_SURVIVED)
        finally:
            os._exit(1)


@attrs.frozen
class _EndsAtFailure:
    failed: Path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Stops a mutant at the first failure."""
        if report.failed:
            self.failed.write_text(report.nodeid)
            os._exit(1)


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def summary(report: Path) -> None:
    """Prints how many mutants of each file were found, and the changes of the others."""
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        counts[line["file"]][line["how"]] += 1
        if line["how"] != "killed":
            mutant = CodeMutant(*(line[name] for name in _FIELDS))
            before, after = (_TOP / mutant.file).read_text().splitlines(), changed_source(mutant).splitlines()
            changed = [each for each in difflib.unified_diff(before, after, n=0, lineterm="") if each[:2] not in _HEADS]
            print(
                f"{mutant.file}:{mutant.line}: {line['how']}, tests that reach it: {line['tests']}", *changed, sep="\n"
            )
    for file, found in sorted(counts.items()):
        print(f"{file}: {', '.join(f'{number} {how}' for how, number in sorted(found.items()))}")


def main(arguments: list[str] | None = None) -> None:
    """Runs the command: see --help."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", help="files or folders, from the top of the sources")
    parser.add_argument("--tests", nargs="+", required=True, help="tests that are to notice")
    parser.add_argument("--seed", type=int, default=41)
    parser.add_argument("--sample", type=int, help="at most so many mutants of each file, chosen at random")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--report", type=Path, default=Path("build/mutants.jsonl"))
    parser.add_argument("--only", type=Path, help="a report: of what it has, what was not killed")
    chosen = parser.parse_args(arguments)
    files = [
        str(each)
        for name in chosen.files
        for each in (sorted(Path(name).rglob("*.py")) if Path(name).is_dir() else [Path(name)])
    ]
    mutants: list[CodeMutant] = []
    if chosen.only:
        lines = [json.loads(line) for line in chosen.only.read_text().splitlines()]
        mutants = [CodeMutant(*(line[name] for name in _FIELDS)) for line in lines if line["how"] != "killed"]
    else:
        for file in files:
            choice = random.Random(f"{chosen.seed} {file}")  # noqa: S311 - anybody may know what was chosen
            of_file = mutants_of(file, choice)
            mutants += choice.sample(of_file, min(chosen.sample or len(of_file), len(of_file)))
    if not chosen.report.exists():
        chosen.report.with_suffix(".map").unlink(missing_ok=True)
    else:  # continues after an earlier run
        known = {tuple(json.loads(line)[name] for name in _FIELDS) for line in chosen.report.read_text().splitlines()}
        mutants = [each for each in mutants if attrs.astuple(each) not in known]
    runner = Runner(mutants, chosen.workers, chosen.report)
    with tempfile.TemporaryDirectory() as folder:
        options = ["-q", "-p", "no:cacheprovider", "--capture=sys", f"--basetemp={folder}/tests"]
        pytest.main([*options, *chosen.tests], plugins=[runner])
    summary(chosen.report)


if __name__ == "__main__":
    main()
