"""Solutions in which a function returns something useless, to try the tests of an exercise with.

In every class some author forgets a return. A test should report that by `expect`, or by an assert with a message, and
not fail with an exception because of the value.
"""

import ast
from collections.abc import Iterator
from typing import Final

import attrs

from proxybox.teach.student import Failed
from proxybox.teach.submissions import Submission

#: The values that the functions return instead, as source.
USELESS: Final = ("None", "0", '""', "[]")
#: The most functions of a solution that are changed, one after the other.
_MOST_FUNCTIONS: Final = 10

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@attrs.frozen(kw_only=True)
class Mutant:
    """A solution in which one function is changed. function: its name. returns: its new result, as source."""

    submission: Submission
    function: str
    returns: str


def mutants(solution: Submission, file: str) -> Iterator[Mutant]:
    """The mutants of a solution, for each of its functions that returns something."""
    try:
        source = solution.main(file).decode("utf-8-sig")
        count = len(_functions(ast.parse(source)))
    except (Failed, ValueError, SyntaxError, RecursionError):  # the grade of the solution itself shows that
        return
    for place in range(min(count, _MOST_FUNCTIONS)):
        for useless in USELESS:
            tree = ast.parse(source)
            name, function = _functions(tree)[place]
            function.body = ast.parse(f"return {useless}").body
            name_of_it = f"{solution.student} whose {name} returns {useless}"
            files = {**solution.beside(file), file: ast.unparse(tree).encode("utf-8", "surrogatepass")}
            yield Mutant(
                submission=attrs.evolve(solution, student=name_of_it, files=files), function=name, returns=useless
            )


def _functions(tree: ast.AST, within: str = "") -> list[tuple[str, _Function]]:
    """The functions and methods that return a value, with their names; not those inside functions."""
    found: list[tuple[str, _Function]] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            found += _functions(node, f"{within}{node.name}.")
        elif isinstance(node, _Function):
            if _returns(node):
                found.append((f"{within}{node.name}", node))
        elif isinstance(node, ast.stmt):
            found += _functions(node, within)
    return found


def _returns(function: _Function) -> bool:
    """Whether a function returns a value by a return statement. A generator does not."""
    own: list[ast.AST] = list(function.body)
    returns = False
    while own:
        node = own.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return False
        returns = returns or (isinstance(node, ast.Return) and node.value is not None)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            own += ast.iter_child_nodes(node)
    return returns
