"""A small report generator: reads data, computes, stores, packs, and prints a summary."""

import argparse
import sys

from pipeline import run


def main(argv=None):
    parser = argparse.ArgumentParser(prog="report", description="Summarise the sales of a shop.")
    parser.add_argument("data", help="folder with sales.csv and rates.json")
    parser.add_argument("--out", default="out", help="folder for results")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--since", default="2024-01-01")
    options = parser.parse_args(argv)
    if options.workers < 1:
        parser.error("--workers: at least one")
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
