def load(name):
    questions = []
    return questions


def is_right(given, answer):
    return False


def play(questions):
    points = 0
    return points


if __name__ == "__main__":
    questions = load("questions.txt")
    points = play(questions)
    print(f"{points} of {len(questions)} points")
