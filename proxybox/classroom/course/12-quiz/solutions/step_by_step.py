def load(name):
    questions = []
    with open(name) as file:
        for line in file:
            line = line.strip()
            if line != "":
                questions.append(line.split(";"))
    return questions


def is_right(given, answer):
    return given.strip().lower() == answer.strip().lower()


def play(questions):
    points = 0
    for question in questions:
        given = input(question[0] + " ")
        if is_right(given, question[1]):
            print("Right!")
            points = points + 1
        else:
            print(f"No, it is {question[1]}.")
    return points


if __name__ == "__main__":
    questions = load("questions.txt")
    points = play(questions)
    result = f"{points} of {len(questions)} points"
    print(result)
    with open("results.txt", "a") as file:
        print(result, file=file)
