"""Compile the three C programs: the guest's launcher and stub, and the overseer of its memory.

Rules: the standard library only, and nothing of proxybox is imported, because setup.py runs this
file by its path before the package exists. Every compiler flag of the project is in this file.

From a checkout: `python -m proxybox.guest.build` (or `python proxybox/guest/build.py`);
`--check` compiles every source with each compiler found, with all warnings as errors, and keeps
nothing; `--force` compiles even what is up to date.
"""

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
COMPILERS = ("gcc", "clang", "cc")
EXIT_CANNOT_BUILD = 125

COMMON_FLAGS = ("-O2", "-g0", "-std=gnu11", "-D_GNU_SOURCE", "-fvisibility=hidden", "-fno-strict-aliasing")
WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wvla")
# A user's newer compiler may have new warnings: they are errors only for `--check`.
WARNINGS_AS_ERRORS = (*WARNINGS, "-Werror")
LINK_FLAGS = ("-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack")

LAUNCHER_FLAGS = (*COMMON_FLAGS, "-fPIE", "-pie")
# The stack protector reads its canary through %fs, on which a signal handler of the stub must not depend.
STUB_FLAGS = (*COMMON_FLAGS, "-fPIC", "-shared", "-fno-stack-protector")
OVERSEER_FLAGS = (*COMMON_FLAGS, "-fPIC", "-shared")

#: output file -> (pattern of its sources, flags)
PROGRAMS = {
    "_launcher": ("launcher*.c", LAUNCHER_FLAGS),
    "_stub.so": ("stub*.c", STUB_FLAGS),
    "_overseer.so": ("overseer*.c", OVERSEER_FLAGS),
}

NO_COMPILER = """\
proxybox: no C compiler found (looked for $CC, then {tried}).
proxybox compiles three small C programs when it is installed. Install a compiler and the C headers:
    Debian, Ubuntu:  apt install gcc libc6-dev
    Fedora:          dnf install gcc glibc-devel
    Alpine:          not supported (proxybox needs glibc)
or name one of your own:  CC=/path/to/compiler"""

WRONG_MACHINE = """\
proxybox: boxes need Linux on x86-64, and this is {system} on {machine}."""


class BuildError(Exception):
    """The guest programs could not be built; the text says why and what to do about it."""


def sources(program: str) -> list[Path]:
    """The C files that make `program` (a key of PROGRAMS), in a fixed order."""
    return sorted(SOURCES.glob(PROGRAMS[program][0]))


def headers() -> list[Path]:
    """Every header of the guest; a change in one rebuilds everything."""
    return sorted(SOURCES.glob("*.h"))


def absolute_path() -> str:
    """PATH without empty and relative entries: the current folder may hold programs of other people."""
    return os.pathsep.join(filter(os.path.isabs, os.environ.get("PATH", os.defpath).split(os.pathsep)))


def find_program(name: str) -> str | None:
    """The path of a program."""
    return shutil.which(name, path=absolute_path())


def find_compiler() -> list[str]:
    """The compiler, as the start of a command line: $CC (which may have options), or the first of COMPILERS on PATH.

    Raises BuildError when there is none.
    """
    named = os.environ.get("CC", "").strip()
    if named:
        command = shlex.split(named)
        path = find_program(command[0])
        if path is None:
            raise BuildError(f"proxybox: the compiler named by CC was not found: {command[0]}")
        return [path, *command[1:]]
    for name in COMPILERS:
        if path := find_program(name):
            return [path]
    raise BuildError(NO_COMPILER.format(tried=", ".join(COMPILERS)))


def is_current(output: Path, made_from: Sequence[Path]) -> bool:
    """Whether `output` is at least as new as everything it is made from (this file included)."""
    if not output.exists():
        return False
    made = output.stat().st_mtime_ns
    return all(path.stat().st_mtime_ns <= made for path in (*made_from, Path(__file__)))


def run_compiler(command: Sequence[str]) -> None:
    """Run the compiler.

    Raises BuildError with the compiler's output when it fails.
    """
    environment = {**os.environ, "PATH": absolute_path()}  # the compiler searches PATH for its assembler
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode == 0:
        if done.stderr:
            sys.stderr.write(done.stderr)
        return
    said = (done.stderr or done.stdout).strip()
    hint = ""
    if "No such file or directory" in said and ".h" in said:
        hint = "\nA C header is missing; on Debian and Ubuntu:  apt install libc6-dev"
    raise BuildError(f"proxybox: compiling failed: {shlex.join(command)}\n{said}{hint}")


def compile_program(program: str, into: Path, *, force: bool = False) -> Path:
    """Compile one program of PROGRAMS into the folder `into` and return its path.

    The result gets its name only when it is complete: boxes that are starting see the old file or the new one. Raises
    BuildError when the program cannot be built.
    """
    output = into / program
    files = sources(program)
    if not files:
        raise BuildError(f"proxybox: no sources for {program} in {SOURCES}: the copy is incomplete")
    if not force and is_current(output, [*files, *headers()]):
        return output
    into.mkdir(parents=True, exist_ok=True)
    fresh = into / f".{program}.{os.getpid()}"
    command = [
        *find_compiler(),
        *PROGRAMS[program][1],
        *WARNINGS,
        "-o",
        str(fresh),
        *map(str, files),
        *LINK_FLAGS,
    ]
    try:
        run_compiler(command)
        os.replace(fresh, output)
    finally:
        fresh.unlink(missing_ok=True)
    return output


def require_supported_machine() -> None:
    """Check that this is Linux on x86-64.

    Raises BuildError on any other machine.
    """
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in ("x86_64", "AMD64"):
        raise BuildError(WRONG_MACHINE.format(system=system, machine=machine))


def build(into: Path = SOURCES, *, force: bool = False) -> list[Path]:
    """Compile the programs into `into` (by default beside the sources); return their paths.

    A program that is newer than its sources is left alone unless `force`. Raises BuildError when one cannot be built.
    """
    require_supported_machine()
    return [compile_program(program, into, force=force) for program in PROGRAMS]


def check() -> int:
    """Compile every source with each compiler found, warnings as errors; keep nothing.

    Returns how many compilers were tried. Raises BuildError at the first warning or error.
    """
    found = [[path] for name in ("gcc", "clang") if (path := find_program(name))]
    compilers = found or [find_compiler()]
    for compiler in compilers:
        for program, (_, flags) in PROGRAMS.items():
            compile_only = [flag for flag in flags if flag not in ("-shared", "-pie")]
            for source in sources(program):
                strict = [*compiler, *compile_only, *WARNINGS_AS_ERRORS]
                run_compiler([*strict, "-c", "-o", os.devnull, str(source)])
    return len(compilers)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this file; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m proxybox.guest.build",
        description="Compile the guest's launcher and stub, and the overseer.",
    )
    parser.add_argument("--check", action="store_true", help="all warnings as errors, keep nothing")
    parser.add_argument("--force", action="store_true", help="compile what is up to date too")
    parser.add_argument("--flags", action="store_true", help="print the common flags, for other tools")
    parser.add_argument("--into", type=Path, default=SOURCES, help="folder for the results")
    options = parser.parse_args(arguments)
    try:
        if options.flags:
            print(*COMMON_FLAGS)
        elif options.check:
            print(f"guest C sources: no complaints from {check()} compiler(s)")
        else:
            for path in build(options.into, force=options.force):
                print(path)
    except BuildError as error:
        print(error, file=sys.stderr)
        return EXIT_CANNOT_BUILD
    return 0


if __name__ == "__main__":
    sys.exit(main())
