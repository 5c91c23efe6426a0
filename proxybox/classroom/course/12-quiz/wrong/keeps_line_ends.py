def load(name):
    questions = []
    with open(name) as file:
        for line in file:
            questions.append(line.split(";"))
    return questions


def is_right(given, answer):
    return given.strip().lower() == answer.strip().lower()


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
    told = f"{play(questions)} of {len(questions)} points"
    print(told)
    with open("results.txt", "a") as file:
        print(told, file=file)
