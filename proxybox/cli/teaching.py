"""The commands for teaching, as click sees them; their work is done in exercise.py, grade.py and classroom.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from proxybox.cli.options import complete_file, guest_option, json_flag, packages_option

GRADE_HELP = """Grade submissions by an exercise, each in boxes of its own.

SUBMISSIONS are a folder of files (.py and .ipynb), folders and zip archives, each of which is one;
or what Moodle, Canvas and Gradescope give for download; or several paths, each one submission. What
else lies there is named and passed over. The exercise is a folder, or the name of one that comes with
proxybox (./NAME is a folder of such a name). A table is printed, and the folder of --output has a
page (report.html), grades.csv, grades.json and what --format names. Run it again to go on where it
was cut off, or to grade what has changed.

\b
Examples:
  proxybox grade 05-second-largest homework/
  proxybox grade my-exercise moodle-download.zip --output graded --format moodle
  proxybox grade my-exercise homework/ --format feedback
  proxybox grade my-exercise submission/ --format gradescope
  proxybox grade my-exercise homework/ --cluster tcp://10.0.0.5:8786

\b
Exit status: 0, or
  125 some could not be graded, or none   130 interrupted   2 usage"""


def complete_course(context: click.Context, parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Returns folders, and the commands about courses if a command is possible there."""
    own = context.command.commands if isinstance(context.command, click.Group) else {}
    names = [CompletionItem(name, help=own[name].get_short_help_str()) for name in own if name.startswith(text)]
    return [CompletionItem(text, type="dir"), *names]


def complete_exercise(_: click.Context, __: click.Parameter, text: str) -> list[CompletionItem]:
    """Returns the exercises that come with proxybox, and folders."""
    from proxybox.teach.checking import shipped_exercises

    names = [CompletionItem(name) for name in shipped_exercises() if name.startswith(text)]
    return [CompletionItem(text, type="dir"), *names]  # folders first: bash drops what comes before them


def complete_format(_: click.Context, __: click.Parameter, text: str) -> list[CompletionItem]:
    """Returns the formats of grades."""
    from proxybox.teach.writers import WRITERS

    return [CompletionItem(name, help=each.description) for name, each in WRITERS.items() if name.startswith(text)]


class FormatOption(click.Option):
    """The option --format, whose help names the formats; they are imported only for the help."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Returns its row in `--help` and in the manual page."""
        from proxybox.teach.writers import WRITERS

        flags, text = super().get_help_record(ctx) or ("", "")
        return flags, f"{text}: {', '.join(WRITERS)}."


jobs_option = click.option(
    "--jobs", "-j", type=click.IntRange(1), metavar="N", help="Grade in N processes at once (as many as CPUs)."
)
records_option = click.option(
    "--records", type=Path, metavar="DIR", shell_complete=complete_file,
    help="Write a record of each test that fails, for `proxybox replay FILE`; this takes longer.",
)  # fmt: skip


@click.command("grade", help=GRADE_HELP, short_help="Grade submissions by an exercise.")
@click.argument("exercise", shell_complete=complete_exercise)
@click.argument("submissions", nargs=-1, required=True, type=Path, shell_complete=complete_file)
@click.option(
    "--output", "-o", type=Path, default=Path("grades"), metavar="DIR", help="Write files to this folder (./grades)."
)
@click.option("--format", "-f", "formats", cls=FormatOption, multiple=True, metavar="NAME",
              shell_complete=complete_format, help="Write the grades in this format, too")  # fmt: skip
@jobs_option
@click.option("--cluster", metavar="ADDRESS", help="Grade on the workers of a dask scheduler: tcp://HOST:PORT.")
@click.option("--again", is_flag=True, help="Grade all submissions, also those that were graded before.")
@click.option("--timings", is_flag=True, help="Write seconds into the files, which then differ each time.")
@click.option("--alike", type=click.FloatRange(0, 1), default=0.8, metavar="SHARE", show_default=True,
              help="Flag submissions that share this part of their code; names and literals do not count.")  # fmt: skip
@records_option
@guest_option
@packages_option
@json_flag
def grade(**options: Any) -> int:
    """Grades submissions."""
    from proxybox.cli.grade import grade as work

    return work(**options)


@click.group("exercise")
def exercise_group() -> None:
    """Make exercises, and check that their tests are right.

    \b
    Examples:
      proxybox exercise list
      proxybox exercise new my-exercise
      proxybox exercise new my-exercise --from 05-second-largest
      proxybox exercise check my-exercise
      proxybox exercise test my-exercise homework.py
    """


@exercise_group.command("list")
@json_flag
def exercise_list(as_json: bool) -> int:
    """List the exercises that come with proxybox."""
    from proxybox.cli import exercise

    return exercise.list_shipped(as_json=as_json)


@exercise_group.command("new", short_help="Make a folder for a new exercise.")
@click.argument("folder", type=Path)
@click.option("--from", "source", metavar="NAME", shell_complete=complete_exercise,
              help="Copy this exercise, which comes with proxybox.")  # fmt: skip
def exercise_new(folder: Path, source: str | None) -> int:
    """Make a folder with a small complete exercise: text, starter, tests, a model solution and two wrong ones."""
    from proxybox.cli import exercise

    return exercise.new(folder, source)


@exercise_group.command("check", short_help="Check that right solutions pass and wrong ones fail.")
@click.argument("exercises", nargs=-1, required=True, metavar="EXERCISE...", shell_complete=complete_exercise)
@jobs_option
@guest_option
@packages_option
@json_flag
def exercise_check(exercises: tuple[str, ...], **options: Any) -> int:
    """Check that each model solution passes every test, and each wrong solution fails some.

    The exit status is 0 when all is as it should be, 1 when it is not.
    """
    from proxybox.cli import exercise

    return exercise.check(exercises, **options)


TEST_HELP = """Run the tests of an exercise for one submission, and print the outcome of each.

SUBMISSION is a file, a folder or a zip archive. Outside of the box nothing of it is imported or
read as settings, wherever it is.

\b
Exit status:
  0 all passed   1 some failed   125 it cannot be graded   130 interrupted   2 usage"""


@exercise_group.command("test", help=TEST_HELP, short_help="Run the tests for one submission.")
@click.argument("exercise", shell_complete=complete_exercise)
@click.argument("submission", type=Path, shell_complete=complete_file)
@records_option
@guest_option
@packages_option
@json_flag
def exercise_test(exercise: str, submission: Path, **options: Any) -> int:
    """Grades one submission."""
    from proxybox.cli import exercise as work

    return work.test(exercise, submission, **options)


# --- classroom --------------------------------------------------------------------------------------------------------

CLASSROOM_HELP = """Teach a class: students write Python in their browsers, each in a box of their own.

COURSE is a folder of exercises (docs/courses.md); without it, the course that comes with proxybox.
The command says which address students open, and with which code they join; you see who is stuck
on a page of your own. Nobody needs an account or the internet, and nothing is installed by
students. It ends with Ctrl-C, keeps everything, and goes on there when it is started again.

\b
Examples:
  proxybox classroom
  proxybox classroom --host lan
  proxybox classroom my-course --host lan --tls
  proxybox classroom new my-course
  proxybox classroom check my-course
  proxybox classroom regrade my-course

\b
Exit status: 0 when it was ended, or
  125 it could not open   2 usage"""


class CourseArgument(click.Argument):
    """An argument of a group that is not shown in the usage of the group's commands."""

    def get_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Returns its part of a usage, and of the names of commands: nothing."""
        return []


class CourseGroup(click.Group):
    """A group that is also a command with an argument, unless its first word names one of its commands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the words after its name."""
        if args and args[0] in self.commands:
            return super().parse_args(ctx, ["", *args])  # an empty argument
        ctx.allow_interspersed_args = True
        rest = click.Command.parse_args(self, ctx, args)
        if rest and not ctx.resilient_parsing:
            ctx.fail(f"Got unexpected extra argument ({' '.join(rest)})")
        return rest


@click.group(
    "classroom", cls=CourseGroup, invoke_without_command=True, help=CLASSROOM_HELP,
    short_help="Teach a class in its browsers.", subcommand_metavar="[COURSE | COMMAND [ARGS]...]",
)  # fmt: skip
@click.argument("course", cls=CourseArgument, required=False, shell_complete=complete_course)
@click.option(
    "--host", metavar="HOST", help="Listen at this address; lan means all addresses of this machine (127.0.0.1)."
)
@click.option(
    "--port", type=click.IntRange(0, 65_535), metavar="N", help="Listen at this TCP port; 0 means any free one (8080)."
)
@click.option("--data", metavar="PATH", help="Store everything in this folder (one for each course, in your home).")
@click.option("--tls", is_flag=True, help="Serve HTTPS with a certificate that the classroom makes itself.")
@click.option(
    "--tls-cert", metavar="FILE", help="Serve HTTPS with this certificate (PEM).", shell_complete=complete_file
)
@click.option("--tls-key", metavar="FILE", help="Use this key for the certificate (PEM).", shell_complete=complete_file)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="Accept this host name, by which students reach the classroom.",
)
@click.option(
    "--seats", type=click.IntRange(1, 1_000), metavar="N", help="Let at most N students join (the course says)."
)
@click.option(
    "--lti",
    metavar="FILE",
    help="Let the learning platforms in this file send students (docs/lti.md).",
    shell_complete=complete_file,
)
@click.option("--embed", multiple=True, metavar="ORIGIN", help="Let pages of this site show exercises (docs/lti.md).")
@guest_option
@packages_option
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON: addresses, code, teacher's address.")
@click.option("--open", "opens", is_flag=True, help="Open the teacher's page in a browser.")
@click.option("--verbose", "-v", is_flag=True, help="Print on stderr who joins, and what is unusual.")
@click.pass_context
def classroom_group(context: click.Context, /, **options: Any) -> int | None:
    """Teach a class."""
    if context.invoked_subcommand is not None:
        return None
    from proxybox.cli import classroom

    return classroom.open_classroom(**options)


@classroom_group.command("new", short_help="Make a folder for a new course.")
@click.argument("folder", type=Path)
@click.option("--example", is_flag=True, help="Copy the course that comes with proxybox.")
def classroom_new(folder: Path, example: bool) -> int:
    """Make a folder with a small complete course: settings, a syllabus, and two exercises."""
    from proxybox.cli import classroom

    return classroom.new(folder, example=example)


@classroom_group.command("check", short_help="Check a course and its exercises.")
@click.argument("courses", nargs=-1, metavar="[COURSE]...", shell_complete=complete_course)
@jobs_option
@json_flag
def classroom_check(courses: Sequence[str], **options: Any) -> int:
    """Check a course: its settings, that its modules can be imported, that right solutions pass and wrong ones fail.

    The exit status is 0 when all is as it should be, 1 when it is not.
    """
    from proxybox.cli import classroom

    return classroom.check(courses, **options)


@classroom_group.command("regrade", short_help="Grade again what was handed in, after tests were corrected.")
@click.argument("course", required=False, metavar="[COURSE]", shell_complete=complete_course)
@click.option("--exercise", "exercises", multiple=True, metavar="NAME", help="Grade only this exercise.")
@click.option("--outdated", is_flag=True, help="Grade only what was graded by tests that have changed since.")
@click.option("--data", metavar="PATH", help="Use this folder of the class, as the classroom does.")
@guest_option
@packages_option
@json_flag
def classroom_regrade(course: str | None, **options: Any) -> int:
    """Grade submissions again: each student's latest one for each exercise.

    An open classroom does this itself; otherwise this command does it. Students also see their former grade.
    The exit status is 0 when all was graded, 1 when something could not be.
    """
    from proxybox.cli import classroom

    return classroom.regrade(course, **options)
