"""Twenty small exercises as courses have them: a right solution, wrong ones, and cases that define what is right.

A case is Python as somebody would write it at home, beside the solution; or "raises ValueError: " and a call.
`in_a_test` makes the body of a test from it, which uses each function or class of the solution through `student`.
"""

import ast
import datetime
from typing import Any

import attrs

# ruff: noqa: E501 - programs on one line


@attrs.frozen
class Small:
    """An exercise. wrong: solutions, each of which fails in at least one case."""

    name: str
    right: str
    wrong: tuple[str, ...]
    cases: tuple[str, ...]


class _Asks(ast.NodeTransformer):
    """Replaces calls of a solution's functions and classes, and attributes of its objects, by a test's calls."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Attribute):
            node.func.value = self.visit(node.func.value)
        elif isinstance(node.func, ast.Name) and node.func.id in self.names:
            node.args.insert(0, ast.Constant(node.func.id))
            node.func = ast.Attribute(ast.Name("student", ast.Load()), self.names[node.func.id], ast.Load())
        node.args = [self.visit(each) for each in node.args]
        node.keywords = [self.visit(each) for each in node.keywords]
        return node

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        if isinstance(node.value, ast.Name) and node.value.id == "datetime":
            return node
        return ast.Call(ast.Attribute(self.visit(node.value), "get", ast.Load()), [ast.Constant(node.attr)], [])

    def visit_Lambda(self, node: ast.Lambda) -> Any:
        source = ast.Attribute(ast.Name("student", ast.Load()), "source", ast.Load())
        return ast.Call(source, [ast.Constant(ast.unparse(node))], [])


def in_a_test(small: Small, case: str) -> str:
    """Returns the statements of a test that does the same as a case."""
    tree = ast.parse(small.right).body
    names = {each.name: "call" for each in tree if isinstance(each, ast.FunctionDef)}
    names |= {each.name: "new" for each in tree if isinstance(each, ast.ClassDef)}
    kind, call = _raises(case)
    asked = ast.fix_missing_locations(_Asks(names).visit(ast.parse(call)))
    if kind:
        node = asked.body[0].value
        if node.func.attr not in ("call", "new"):  # a method of an object
            node.args.insert(0, ast.Constant(node.func.attr))
        node.func.attr = "raises"
        node.args.insert(0, ast.Name(kind, ast.Load()))
    return ast.unparse(ast.fix_missing_locations(asked))


def _raises(case: str) -> tuple[str, str]:
    """Returns the kind of exception that a case expects, and the call; ("", case) for any other case."""
    if not case.startswith("raises "):
        return "", case
    kind, _, call = case.removeprefix("raises ").partition(": ")
    return kind, call


def holds(code: str, case: str) -> bool:
    """Returns whether a case holds for a solution without proxybox."""
    names: dict[str, Any] = {"__name__": "solution"}
    kind, call = _raises(case)
    try:
        exec(code, names)
        exec(call, {**names, "datetime": datetime})
    except Exception as error:
        return bool(kind) and any(each.__name__ == kind for each in type(error).__mro__)
    return not kind


TWENTY = (
    Small("leap", "def leap(year): return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)",
          ("def leap(year): return year % 4 == 0", "def leap(year): print(year % 4 == 0)", "def leap(year): return 'yes' if year % 4 == 0 else 'no'"),
          ("assert leap(1996) is True", "assert leap(2000) == True", "assert leap(1900) is False", "assert not leap(2015)")),
    Small("greeting", "def greet(name='you'): return f'One for {name}, one for me.'",
          ("def greet(name): return f'One for {name}, one for me.'", "def greet(name='you'): print(f'One for {name}, one for me.')"),
          ("assert greet() == 'One for you, one for me.'", "assert greet('Ada').startswith('One for Ada')", "assert greet(name='Bob')[8:11] == 'Bob'")),
    Small("hamming", "def distance(a, b):\n    if len(a) != len(b): raise ValueError('Strands must be of equal length.')\n    return sum(x != y for x, y in zip(a, b))",
          ("def distance(a, b): return sum(x != y for x, y in zip(a, b))", "def distance(a, b):\n    if len(a) != len(b): return 'unequal'\n    return [x != y for x, y in zip(a, b)].count(False)"),
          ("assert distance('', '') == 0", "assert distance('GGACTGA', 'GGACTGG') + 1 == 2", "assert distance('AAT', 'TTA') == 3", "assert distance('AAT', 'TTA') / 3 == 1", "raises ValueError: distance('A', '')")),
    Small("raindrops", "def convert(n):\n    return ''.join(word for by, word in ((3, 'Pling'), (5, 'Plang'), (7, 'Plong')) if n % by == 0) or str(n)",
          ("def convert(n):\n    if n % 3 == 0: return 'Pling'\n    if n % 5 == 0: return 'Plang'\n    if n % 7 == 0: return 'Plong'\n    return str(n)", "def convert(n):\n    return ''.join(word for by, word in ((3, 'Pling'), (5, 'Plang'), (7, 'Plong')) if n % by == 0) or n"),
          ("assert convert(1) == '1'", "assert convert(15) == 'PlingPlang'", "assert len(convert(105)) == 15", "assert convert(8) + '!' == '8!'")),
    Small("grains", "def square(n):\n    if not 1 <= n <= 64: raise ValueError('square must be between 1 and 64')\n    return 2 ** (n - 1)\ndef total(): return 2 ** 64 - 1",
          ("def square(n): return 2 ** n\ndef total(): return sum(map(square, range(64)))", "def square(n): return 2.0 ** (n - 1)\ndef total(): return sum(square(n) for n in range(1, 65))"),
          ("assert square(1) == 1", "assert square(64) == 9223372036854775808", "assert total() == 18446744073709551615", "assert total() % 10 == 5", "raises ValueError: square(0)", "raises Exception: square(65)")),
    Small("isogram", "def isogram(text):\n    letters = [each for each in text.lower() if each.isalpha()]\n    return len(letters) == len(set(letters))",
          ("def isogram(text): return len(text) == len(set(text))", "def isogram(text):\n    for each in text.lower():\n        return text.lower().count(each) == 1"),
          ("assert isogram('') is True", "assert isogram('thumbscrew-japingly')", "assert not isogram('Alphabet')", "assert isogram('six-year-old')")),
    Small("anagram", "def find(word, others):\n    return [each for each in others if each.lower() != word.lower() and sorted(each.lower()) == sorted(word.lower())]",
          ("def find(word, others): return {each for each in others if sorted(each) == sorted(word)}", "def find(word, others): return (each for each in others if each.lower() != word.lower() and sorted(each.lower()) == sorted(word.lower()))", "def find(word, others):\n    for each in others:\n        if sorted(each) == sorted(word): return each"),
          ("assert find('diaper', ['hello']) == []", "assert find('master', ['stream', 'pigeon', 'maters']) == ['stream', 'maters']", "assert find('BANANA', ['banana']) == []", "assert find('listen', ['inlets', 'x'])[0] == 'inlets'", "assert sorted(find('abc', ['cab', 'bca'])) == ['bca', 'cab']")),
    Small("roman", "def roman(n):\n    found = ''\n    for value, letters in ((1000, 'M'), (900, 'CM'), (500, 'D'), (400, 'CD'), (100, 'C'), (90, 'XC'), (50, 'L'), (40, 'XL'), (10, 'X'), (9, 'IX'), (5, 'V'), (4, 'IV'), (1, 'I')):\n        while n >= value:\n            found += letters\n            n -= value\n    return found",
          ("def roman(n): return 'I' * n", "def roman(n):\n    found = []\n    for value, letters in ((10, 'X'), (9, 'IX'), (5, 'V'), (4, 'IV'), (1, 'I')):\n        while n >= value:\n            found += letters\n            n -= value\n    return found"),
          ("assert roman(1) == 'I'", "assert roman(1994) == 'MCMXCIV'", "assert roman(4).lower() == 'iv'")),
    Small("luhn", "def valid(text):\n    text = text.replace(' ', '')\n    if len(text) < 2 or not text.isdigit(): return False\n    digits = [int(each) for each in reversed(text)]\n    return (sum(digits[::2]) + sum(sum(divmod(2 * each, 10)) for each in digits[1::2])) % 10 == 0",
          ("def valid(text): return sum(map(int, text)) % 10 == 0", "def valid(text):\n    digits = [int(each) for each in reversed(text.replace(' ', ''))]\n    return (sum(digits[::2]) + sum(sum(divmod(2 * each, 10)) for each in digits[1::2])) % 10 == 0 and 1"),
          ("assert valid('059') is True", "assert valid('1') is False", "assert valid('055 444 285')", "assert not valid('055-444-285')")),
    Small("collatz", "def steps(n):\n    if n < 1: raise ValueError('Only positive integers are allowed')\n    count = 0\n    while n != 1:\n        n = n // 2 if n % 2 == 0 else 3 * n + 1\n        count += 1\n    return count",
          ("def steps(n): return 0 if n <= 1 else 1 + steps(n // 2 if n % 2 == 0 else 3 * n + 1)", "def steps(n):\n    count = 1\n    while n > 1:\n        n = n / 2 if n % 2 == 0 else 3 * n + 1\n        count += 1\n    return count"),
          ("assert steps(1) == 0", "assert steps(12) == 9", "assert steps(1000000) == 152", "assert steps(16) ** 2 == 16", "raises ValueError: steps(0)")),
    Small("primes", "def primes(limit): return [n for n in range(2, limit + 1) if all(n % k for k in range(2, n))]",
          ("def primes(limit): return filter(lambda n: all(n % k for k in range(2, n)), range(2, limit + 1))", "def primes(limit): return [n for n in range(limit) if all(n % k for k in range(2, n))]", "def primes(limit): return range(2, limit + 1)"),
          ("assert primes(1) == []", "assert primes(10) == [2, 3, 5, 7]", "assert len(primes(100)) == 25", "assert primes(13)[-1] == 13", "assert list(primes(3)) == [2, 3]", "assert [2 * n for n in primes(5)] == [4, 6, 10]")),
    Small("words", "from collections import Counter\ndef count(text): return Counter(text.lower().split())",
          ("def count(text): return {word: text.count(word) for word in text.split()}", "def count(text): return [(word, text.split().count(word)) for word in sorted(set(text.split()))]", "def count(text): return {word.lower() for word in text.split()}"),
          ("assert count('one fish two fish') == {'one': 1, 'fish': 2, 'two': 1}", "assert count('Go go GO')['go'] == 3", "assert sorted(count('b a')) == ['a', 'b']", "assert 'x' in count('x y')", "assert dict(count('a')) == {'a': 1}")),
    Small("matrix", "class Matrix:\n    def __init__(self, text): self.rows = [[int(each) for each in line.split()] for line in text.splitlines()]\n    def row(self, n): return self.rows[n - 1]\n    def column(self, n): return [row[n - 1] for row in self.rows]",
          ("class Matrix:\n    def __init__(self, text): self.rows = [line.split() for line in text.splitlines()]\n    def row(self, n): return self.rows[n]\n    def column(self, n): return [row[n] for row in self.rows]", "class Matrix:\n    def __init__(self, text): self.rows = tuple(tuple(map(int, line.split())) for line in text.splitlines())\n    def row(self, n): return self.rows[n - 1]\n    def column(self, n): return tuple(zip(*self.rows))[n - 1]", "class Matrix:\n    def __init__(self): pass\n    def row(self, n): return n"),
          ("assert Matrix('1 2\\n3 4').row(1) == [1, 2]", "assert Matrix('1 2\\n3 4').column(2) == [2, 4]", "assert Matrix('9').rows == [[9]]", "assert sum(Matrix('1 2\\n3 4').column(1)) == 4")),
    Small("account", "class Account:\n    def __init__(self, balance=0): self.balance = balance\n    def deposit(self, amount):\n        if amount <= 0: raise ValueError('amount must be greater than 0')\n        self.balance += amount\n        return self\n    def transfer(self, other, amount):\n        self.balance -= amount\n        other.balance += amount",
          ("class Account:\n    balance = 0\n    def deposit(self, amount): self.balance += amount\n    def transfer(self, other, amount): self.balance -= amount", "class Account:\n    def __init__(self, balance=0): self._balance = balance\n    @property\n    def balance(self): return str(self._balance)\n    def deposit(self, amount):\n        if amount <= 0: raise ValueError('amount must be greater than 0')\n        self._balance += amount\n        return self"),
          ("assert Account().balance == 0", "assert Account(5).deposit(5).balance == 10", "a = Account(5)\nassert a.deposit(1) is a", "a, b = Account(9), Account()\na.transfer(b, 4)\nassert [a.balance, b.balance] == [5, 4]", "assert Account(balance=3).balance + 1 == 4", "raises ValueError: Account().deposit(-1)", "raises TypeError: Account().deposit()")),
    Small("list", "class Node:\n    def __init__(self, value, next=None): self.value, self.next = value, next\ndef linked(values):\n    head = None\n    for each in reversed(values): head = Node(each, head)\n    return head\ndef find(node, value):\n    while node is not None and node.value != value: node = node.next\n    return node",
          ("class Node:\n    def __init__(self, value, next=None): self.value, self.next = value, None\ndef linked(values):\n    for each in values: node = Node(each)\n    return node\ndef find(node, value): return node.value == value", "class Node:\n    def __init__(self, value, next=None): self.value, self.next = value, next\ndef linked(values): return Node(values[0], linked(values[1:])) if values else []\ndef find(node, value): return node if node.value == value else find(node.next, value)"),
          ("assert linked([]) is None", "assert linked([1, 2]).next.value == 2", "assert linked([1]).next is None", "assert find(linked([1, 2]), 3) is None", "assert find(linked([1, 2]), 2).value == 2", "n = Node(1)\nassert Node(2, n).next is n", "assert Node(1, next=Node(3)).next.value == 3")),
    Small("strain", "def keep(values, test): return [each for each in values if test(each)]\ndef discard(values, test): return [each for each in values if not test(each)]",
          ("def keep(values, test): return filter(test, values)\ndef discard(values, test): return [each for each in values if each not in filter(test, values)] + []", "def keep(values, test):\n    for each in values:\n        if not test(each): values.remove(each)\n    return values\ndef discard(values, test): return values"),
          ("assert keep([1, 2, 3], lambda x: x % 2 == 1) == [1, 3]", "assert discard([1, 2, 3], lambda x: x > 1) == [1]", "assert keep([2, 2, 2, 4], lambda x: False) == []", "assert len(keep([], lambda x: True)) == 0")),
    Small("moments", "import datetime\ndef later(moment): return moment + datetime.timedelta(seconds=10 ** 9)\ndef span(a, b): return b - a\ndef day(moment): return moment.date()",
          ("import datetime\ndef later(moment): return moment.timestamp() + 10 ** 9\ndef span(a, b): return (b - a).seconds\ndef day(moment): return str(moment.date())", "import datetime\ndef later(moment): return moment + datetime.timedelta(days=10 ** 9 // 86400)\ndef span(a, b): return a - b\ndef day(moment): return moment"),
          ("assert later(datetime.datetime(2011, 4, 25)) == datetime.datetime(2043, 1, 1, 1, 46, 40)", "assert span(datetime.datetime(2026, 1, 1), datetime.datetime(2026, 1, 3)) == datetime.timedelta(2)", "assert day(datetime.datetime(2026, 1, 3, 4)) == datetime.date(2026, 1, 3)", "assert span(datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)).total_seconds() == 86400")),
    Small("fractions", "from fractions import Fraction\ndef half(n): return Fraction(n, 2)\ndef root(n): return n ** 0.5 if n >= 0 else complex(0, (-n) ** 0.5)\ndef evens(n): return range(0, n, 2)",
          ("def half(n): return f'{n}/2'\ndef root(n): return abs(n) ** 0.5\ndef evens(n): return range(0, n + 1, 2)", "def half(n): return n // 2\ndef root(n): return (n ** 0.5, 0)\ndef evens(n): yield from range(0, n, 2)"),
          ("assert half(3) == 1.5", "assert half(3) * 2 == 3", "assert root(4) == 2", "assert root(-4) == 2j", "assert evens(5) == range(0, 6, 2)", "assert list(evens(5)) == [0, 2, 4]", "assert len(evens(6)) == 3", "assert 4 in evens(5)")),
    Small("seats", "def letters(count):\n    for place in range(count): yield 'ABCD'[place % 4]\ndef seats(count): return [f'{place // 4 + 1}{letter}' for place, letter in enumerate(letters(count))]\ndef assign(people): return dict(zip(people, seats(len(people))))",
          ("def letters(count): return ['ABCD'[place] for place in range(count)]\ndef seats(count): return letters(count)\ndef assign(people): return zip(people, seats(len(people)))", "def letters(count):\n    while True: yield 'A'\ndef seats(count): return (str(place) for place in range(count))\ndef assign(people): return {}"),
          ("assert list(letters(5)) == ['A', 'B', 'C', 'D', 'A']", "assert seats(5) == ['1A', '1B', '1C', '1D', '2A']", "assert assign(['Ada', 'Bob']) == {'Ada': '1A', 'Bob': '1B'}", "assert assign(['Ada'])['Ada'] == '1A'", "assert [each for each in letters(2)] == ['A', 'B']")),
    Small("search", "def search(values, wanted):\n    low, high = 0, len(values)\n    while low < high:\n        middle = (low + high) // 2\n        if values[middle] == wanted: return middle\n        if values[middle] < wanted: low = middle + 1\n        else: high = middle\n    raise ValueError('value not in array')",
          ("def search(values, wanted):\n    for place, each in enumerate(values):\n        if each == wanted: place", "def search(values, wanted): return values.index(wanted) if wanted in values else -1", "def search(values, wanted): return wanted in values"),
          ("assert search([6], 6) == 0", "assert search([1, 3, 4, 6, 8, 9, 11], 6) == 3", "assert [10, 20, 30][search([1, 2, 3], 2)] == 20", "assert 'abc'[search([1, 2, 3], 3):] == 'c'", "raises ValueError: search([], 1)", "raises ValueError: search([1, 2], 3)")),
)  # fmt: skip
