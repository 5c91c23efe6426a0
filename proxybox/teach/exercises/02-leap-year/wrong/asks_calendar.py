from calendar import isleap


def is_leap(year):
    return isleap(year)
