def load(name):
    with open(name) as file:
        return [line.split(";") for line in file.read().splitlines() if line]


def is_right(given, answer):
    return given.strip().lower() == answer.lower()


def play(questions):
    points = 0
    for question, answer in questions:
        if is_right(input(question), answer):
            print("Right!")
            points += 1
        else:
            print(f"No, it is {answer}.")
    return points


if __name__ == "__main__":
    questions = load("questions.txt")
    print(f"{play(questions)} of {len(questions)} points")
