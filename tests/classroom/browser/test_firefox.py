"""The student's page in Firefox: joining, writing and running; the work is still there after a reload."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.classroom.browser.conftest import Classroom
from tests.classroom.browser.firefox import CONTROL, DELETE, ENTER, TAB, Firefox, firefox

pytestmark = pytest.mark.full  # a second browser


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Firefox]:
    path = shutil.which("firefox-esr") or shutil.which("firefox")
    if path is None:
        pytest.skip("there is no Firefox here (firefox-esr, firefox)")
    profile = tmp_path / "profile"
    profile.mkdir()
    with firefox(path, profile) as started:
        yield started


def test_a_student_joins_runs_a_program_and_finds_it_again(browser: Firefox, classroom: Classroom) -> None:
    browser.go(classroom.url)
    browser.value("document.querySelector('input').focus()")
    browser.press("Marie in Firefox", TAB, classroom.code, ENTER)
    browser.wait_for("document.querySelector('body.ready .cm-content')")

    browser.value("document.querySelector('.cm-content').focus()")
    browser.press((CONTROL, "a"), DELETE, "print(6 * 7, 'in Firefox')", (CONTROL, ENTER))
    browser.wait_for("document.querySelector('#output').innerText.includes('42 in Firefox')")

    browser.press((CONTROL, "a"), DELETE, "print(input('Who? '))", (CONTROL, ENTER))
    browser.wait_for("document.querySelector('#output').innerText.includes('Who?')")
    browser.wait_for("document.activeElement.tagName === 'INPUT'")  # where the program asks, the answer can be typed
    browser.press("Grace", ENTER)
    browser.wait_for("document.querySelector('#output').innerText.includes('Grace')")
    browser.wait_for("document.querySelector('#status[data-kind=\"saved\"]')")

    browser.go(classroom.url)
    browser.wait_for("document.querySelector('body.ready .cm-content')?.innerText.includes('Who?')")
