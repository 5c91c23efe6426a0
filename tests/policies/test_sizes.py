"""Sizes, durations and points in time in all the forms that people write."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxybox.policies import PolicyError
from proxybox.policies.moments import LATEST, format_moment, to_moment
from proxybox.policies.sizes import (
    format_size,
    spoken_duration,
    spoken_size,
    to_duration,
    to_size,
)


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (0, 0),
        (1_000_000, 1_000_000),
        ("512M", 512 << 20),
        ("512m", 512 << 20),
        ("1GiB", 1 << 30),
        ("1 GiB", 1 << 30),
        ("1GB", 10**9),
        ("1kB", 1000),
        ("1K", 1024),
        ("1.5K", 1536),
        ("1_000", 1000),
        ("10B", 10),
        ("2T", 2 << 40),
        (" 64M ", 64 << 20),
        (None, None),
        ("none", None),
        ("Unlimited", None),
        ("1MB", 10**6),
        ("1kB" + " " * 37, 1000),
    ],
)
def test_sizes(given, size):
    assert to_size(given) == size


@pytest.mark.parametrize(
    "given",
    [
        "",
        "M",
        "-1M",
        "1X",
        "1iB",
        "1Mi B",
        "0.3K",
        "9" * 30,
        "9" * 5000,
        "1kB" + " " * 38,
        str(1 << 63),
        "1M1M",
        1.5,
        True,
        [],
        b"1M",
    ],
)
def test_what_is_no_size(given):
    with pytest.raises(PolicyError, match="want a size"):
        to_size(given)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (3, 3.0),
        (2.5, 2.5),
        ("2s", 2.0),
        ("2.5", 2.5),
        ("500ms", 0.5),
        ("1m30s", 90.0),
        ("1m 30s", 90.0),
        ("1min", 60.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        (datetime.timedelta(minutes=1), 60.0),
        (None, None),
        ("none", None),
        ("2s" + " " * 58, 2.0),
    ],
)
def test_durations(given, seconds):
    assert to_duration(given) == seconds


@pytest.mark.parametrize(
    "given",
    ["", " ", "s", "1x", "2s" + " " * 59, "30s1m", "nan", "inf", float("inf"), float("nan"), 10**400, True, []],
)
def test_what_is_no_duration(given):
    with pytest.raises(PolicyError, match="want a duration"):
        to_duration(given)


@given(st.integers(0, (1 << 62) - 1))
def test_a_size_survives_being_written(size):
    assert to_size(format_size(size)) == size
    assert to_size(str(format_size(size))) == size


@given(st.floats(0, LATEST))
def test_a_moment_survives_being_written(seconds):
    assert to_moment(format_moment(seconds)) == seconds


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (0, 0.0),
        ("1970-01-02", 86400.0),
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        (datetime.date(1970, 1, 2), 86400.0),
        (datetime.datetime(1970, 1, 1, 0, 1), 60.0),
        (datetime.datetime(1970, 1, 1, 0, 1, tzinfo=datetime.UTC), 60.0),
        (None, None),
        ("1970-01-02" + " " * 30, 86400.0),
        (LATEST, LATEST),
    ],
)
def test_moments(given, seconds):
    assert to_moment(given) == seconds


@pytest.mark.parametrize(
    "given",
    [
        -1,
        "1969-12-31",
        "2300-01-01",
        "soon",
        "",
        True,
        [],
        float("nan"),
        10**400,
        datetime.date.max,
        "1970-01-02" + " " * 31,
        LATEST + 1,
    ],
)
def test_what_is_no_moment(given):
    with pytest.raises(PolicyError, match="want a time from 1970"):
        to_moment(given)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1000, "1,000 bytes"),
        (1536, "1.5 KiB"),
        (512 << 20, "512 MiB"),
    ],
)
def test_spoken_sizes(size, text):
    assert spoken_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "500 ms"),
        (1.0, "1 s"),
        (5.0, "5 s"),
        (60.0, "1 min"),
        (60.5, "60.5 s"),
        (90.0, "1 min 30 s"),
        (300.0, "5 min"),
        (86401.0, "1 d 1 s"),
    ],
)
def test_spoken_durations(seconds, text):
    assert spoken_duration(seconds) == text
