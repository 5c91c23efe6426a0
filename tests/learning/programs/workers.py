"""Computes in several threads."""

from concurrent.futures import ThreadPoolExecutor


def work(number):
    return sum(range(number * 1000))


with ThreadPoolExecutor(3) as pool:
    print(sum(pool.map(work, range(20))))
