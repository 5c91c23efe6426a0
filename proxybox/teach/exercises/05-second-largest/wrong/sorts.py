def second_largest(numbers):
    different = []
    for number in sorted(numbers):
        if number not in different:
            different.append(number)
    if len(different) < 2:
        raise ValueError("there are not two different numbers")
    return different[-2]
