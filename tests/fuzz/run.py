"""Fuzzes for a bounded time and prints figures: `make fuzz`, or `python tests/fuzz/run.py --help`.

Each target runs under atheris (libFuzzer), guided by the coverage of `proxybox.controller`, from the kept corpus in
corpus/<target>/; `stub` is C (stub_harness.py) under libFuzzer itself, if clang is installed. New inputs are in
build/fuzz/<target>/, from which `--keep` chooses a new corpus. Findings are in findings/<target>/, where the tests
replay them from then on. At the end the filesystem machine runs.
"""

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = HERE.parent.parent / "build" / "fuzz"
#: The share of the time of each target.
SHARES = {"framing": 0.05, "decoders": 0.1, "calls": 0.4, "translated": 0.1, "stub": 0.1, "machine": 0.25}
LONGEST_INPUT = 4096
ADDRESS_SPACE = 6 << 30
FINDINGS_MAX = 5
#: Runs of the machine for each kind of filesystem, in one process.
BATCH = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="for everything (default: 600)")
    parser.add_argument("--runs", type=int, default=0, help="the most executions of each target (default: no limit)")
    parser.add_argument("--only", choices=SHARES, help="all the time for one of them")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations and of the machine (default: 1)")
    parser.add_argument("--keep", action="store_true", help="no fuzzing: choose the kept corpus from what was learnt")
    options = parser.parse_args()
    if options.keep:
        return keep()
    shares = {options.only: 1.0} if options.only else SHARES
    found = 0
    for name, share in shares.items():
        seconds = options.seconds * share
        if name == "machine":
            found += machine(seconds, options.seed)
        else:
            found += fuzz(name, seconds, options.runs, options.seed)
    return 1 if found else 0


# --- targets under atheris --------------------------------------------------------------------------------------------


def fuzz(name: str, seconds: float, runs: int, seed: int) -> int:
    """Fuzzes one target, prints its figures, and returns the number of findings.

    A finding ends libFuzzer, so it is started again.
    """
    findings = HERE / "findings" / name
    known = set(findings.glob("*"))
    end, executions, coverage, started = time.monotonic() + seconds, 0, "", time.monotonic()
    for attempt in range(FINDINGS_MAX):
        left = int(end - time.monotonic())
        if left < 1 or (runs and executions >= runs):
            break
        said = _child(name, left, runs - executions if runs else -1, seed + attempt)
        executions += int(_last(r"stat::number_of_executed_units:\s*(\d+)", said) or 0)
        coverage = _last(r"(cov: \d+ ft: \d+ corp: \d+/\S+)", said) or coverage
        if set(findings.glob("*")) == known:
            if "stat::number_of_executed_units" not in said:
                print(said[-4000:])
                return 1  # atheris itself did not run
            break
        print(said[-4000:])
        for new in sorted(set(findings.glob("*")) - known):
            print(f"{name}: FOUND {new.relative_to(HERE.parent.parent)}")
        if runs == 0 and left < 5:
            break
    new = len(set(findings.glob("*")) - known)
    took = time.monotonic() - started
    print(f"{name}: {executions} executions, {executions / took:.0f}/s, {coverage}, {new} findings", flush=True)
    if name == "stub":
        return new
    covered, lines = _lines(name)
    print(f"{name}: {covered} of {lines} lines of the controller's covered by what is known", flush=True)
    return new


def _last(pattern: str, text: str) -> str | None:
    found = re.findall(pattern, text)
    return found[-1] if found else None


def _child(name: str, seconds: int, runs: int, seed: int) -> str:
    for folder in (WORK / name, HERE / "findings" / name, HERE / "corpus" / name):
        folder.mkdir(parents=True, exist_ok=True)
    for kept in (HERE / "corpus" / name).glob("*"):
        shutil.copy(kept, WORK / name)  # libFuzzer writes into the folder that it reads
    arguments = [
        f"-max_total_time={seconds}", f"-runs={runs}", f"-seed={seed}", f"-max_len={LONGEST_INPUT}", "-timeout=20",
        "-rss_limit_mb=1500", "-print_final_stats=1", "-len_control=20", "-reload=0", "-verbosity=1",
        f"-artifact_prefix={HERE / 'findings' / name}/", str(WORK / name),
    ]  # fmt: skip
    command = [sys.executable, str(HERE / "run.py"), "--child", name, *arguments]
    if name == "stub":
        program = _compiled(libfuzzer=True) or _compiled(libfuzzer=False)
        if program is None:
            return "no compiler here has AddressSanitizer (apt install gcc, or clang and libclang-rt-dev)"
        command = [str(program), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.stdout.decode(errors="replace")


def _compiled(*, libfuzzer: bool) -> Path | None:
    """Compiles the stub's harness, and returns its path; None without a compiler for it."""
    from stub_harness import compile_harness

    return compile_harness(WORK / "stub-harness", libfuzzer=libfuzzer)


def child(name: str, arguments: list[str]) -> None:
    """Runs libFuzzer; this process does nothing else."""
    import atheris

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    sys.path.insert(0, str(HERE))
    with atheris.instrument_imports(include=["proxybox.controller"]):
        from targets import TARGETS
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


# --- what the known inputs cover --------------------------------------------------------------------------------------


def _inputs(name: str) -> list[Path]:
    """Returns all inputs of a target: corpus, findings and new ones, the shortest first."""
    files = [path for folder in (HERE / "corpus", HERE / "findings", WORK) for path in (folder / name).glob("*")]
    return sorted(files, key=lambda path: (path.stat().st_size, path.name))


def _lines(name: str) -> tuple[int, int]:
    """Returns the number of lines that the inputs run, and of all lines in the modules that they reach."""
    done = subprocess.run(
        [sys.executable, str(HERE / "lines.py"), name, *map(str, _inputs(name))], stdout=subprocess.PIPE, check=False
    )
    covered, lines = done.stdout.split()[-2:] if done.returncode == 0 else (b"0", b"0")
    return int(covered), int(lines)


def keep() -> int:
    """Chooses the kept corpus: few inputs that together cover nearly as much as all inputs."""
    for name in ("framing", "decoders", "calls", "translated", "stub"):
        command = [sys.executable, str(HERE / "lines.py"), "--choose", name]
        if name == "stub":
            program = _compiled(libfuzzer=False)
            if program is None:
                continue
            command = [str(program), "-choose=1"]
        done = subprocess.run([*command, *map(str, _inputs(name))], stdout=subprocess.PIPE, check=True)
        chosen = {Path(line).name: Path(line).read_bytes() for line in done.stdout.decode().splitlines()}
        folder = HERE / "corpus" / name
        for old in folder.glob("*"):
            old.unlink()
        for file, data in chosen.items():
            (folder / file).write_bytes(data)
        print(f"{name}: kept {len(chosen)} inputs of {sum(map(len, chosen.values()))} bytes")
    return 0


# --- the filesystem machine -------------------------------------------------------------------------------------------


def machine(seconds: float, seed: int) -> int:
    """Runs the filesystem machine until the time is over: batches of runs, each with a seed of its own."""
    started, failures, batches = time.monotonic(), 0, 0
    while time.monotonic() - started < seconds and failures < FINDINGS_MAX:
        environment = {**os.environ, "PROXYBOX_FUZZ_SEED": str(seed + batches), "PROXYBOX_EXAMPLES": str(BATCH)}
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-rN", "--timeout=0", "-p", "no:cacheprovider",
                   str(HERE / "test_filesystem_machine.py")]  # fmt: skip
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        batches += 1
        if done.returncode != 0:
            failures += 1
            print(done.stdout.decode(errors="replace")[-6000:])
    took = time.monotonic() - started
    print(f"machine: {batches * BATCH} runs of each kind in {took:.0f} s, {failures} findings", flush=True)
    return failures


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
