def load(name):
    with open(name) as file:
        return [line.split(";") for line in file.read().splitlines() if line]


def is_right(given, answer):
    return given.strip().casefold() == answer.casefold()


def play(questions):
    points = 0
    for question, answer in questions:
        right = is_right(input(question), answer)
        print("Right!" if right else "No, it is " + answer + ".")
        points += right
    return points


def main():
    questions = load("questions.txt")
    told = f"{play(questions)} of {len(questions)} points"
    print(told)
    with open("results.txt", "a") as file:
        file.write(told + "\n")


if __name__ == "__main__":
    main()
