def second_largest(numbers):
    first = second = 0
    for number in numbers:
        if number > first:
            first, second = number, first
        elif number != first and number > second:
            second = number
    if len(set(numbers)) < 2:
        raise ValueError("there are not two different numbers")
    return second
