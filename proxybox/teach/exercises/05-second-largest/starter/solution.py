def second_largest(numbers):
    for number in numbers:
        pass
