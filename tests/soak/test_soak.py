"""A small soak; `make soak` runs 2,000 boxes."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.full
@pytest.mark.timeout(300)
def test_sixty_boxes_leave_nothing():
    ended = subprocess.run(
        [sys.executable, Path(__file__).with_name("soak.py"), "--boxes", "60"],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "every count is flat" in ended.stdout
