SIGN = [
    "+----------------+",
    "| LEMONADE STAND |",
    "+----------------+",
    "",
    "It's cold, and it's sweet.",
    "One cup: 50 cents",
]


def lines_of(run):
    run.check()
    return [line.rstrip() for line in run.stdout.rstrip().splitlines()]


def check(run, numbers):
    lines = lines_of(run)
    for number in numbers:
        wanted = SIGN[number - 1]
        assert number <= len(lines), f"There is no line {number} yet: the program prints {len(lines)}."
        came = lines[number - 1]
        assert wanted or not came, f"Line {number} should be empty: print() makes an empty line."
        assert came == wanted, f"Line {number} should be:\n{wanted}\nIt is:\n{came[:80] or '(empty)'}"


def test_top(run_student):
    "The board with the name (lines 1 to 3)"
    check(run_student(), [1, 2, 3])


def test_empty_line(run_student):
    "The empty line (line 4)"
    check(run_student(), [4])


def test_bottom(run_student):
    "The two lines below the board (lines 5 and 6)"
    check(run_student(), [5, 6])


def test_nothing_more(run_student):
    "Six lines, and nothing more"
    count = len(lines_of(run_student()))
    assert count == 6, f"The sign has 6 lines, and your program prints {count}."
