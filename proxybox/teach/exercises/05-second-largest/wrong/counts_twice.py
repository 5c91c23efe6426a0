def second_largest(numbers):
    first = second = None
    for number in numbers:
        if first is None or number > first:
            first, second = number, first
        elif second is None or number > second:
            second = number
    if second is None:
        raise ValueError("there are not two different numbers")
    return second
