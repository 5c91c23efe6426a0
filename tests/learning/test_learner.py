"""The rounds of learning, with simulated runs."""

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import pytest

from proxybox.controller.audit import OSCall
from proxybox.controller.errors import SandboxStartError
from proxybox.learning.hostfiles import Host
from proxybox.learning.learner import Enough, LearnedRun, Learner, for_learning, passes
from proxybox.learning.observing import Observed
from proxybox.learning.proposals import Proposal, with_mount
from proxybox.policies import Mount, Policy, evolve, preset
from proxybox.result import Result, Status
from tests.learning.records import ended, failed, opened

STRICT = preset("strict")
HOST = Host(home="/nowhere")


def run(result: Result, *calls: OSCall) -> LearnedRun:
    return LearnedRun(result, Observed.of(calls))


def accept(_: Proposal) -> bool:
    return True


def needing(
    *paths: Path, output: Callable[[frozenset[str]], bytes] = lambda _: b""
) -> Callable[[Policy], Sequence[LearnedRun]]:
    """Returns a program that opens files one after the other, and fails at the first one that is not mounted."""

    def play(policy: Policy) -> list[LearnedRun]:
        there = frozenset(mount.target for mount in policy.filesystem.mounts)
        calls = []
        for path in paths:
            calls.append(opened(str(path), error="" if str(path) in there else "ENOENT"))
            if str(path) not in there:
                return [run(failed("FileNotFoundError", ""), *calls)]
        return [run(ended(), *calls)]

    return play


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in ("a", "b", "c")]
    for path in made:
        path.write_text("")
    return made


def test_it_goes_on_until_the_program_passes(files: list[Path]) -> None:
    found = Learner(policy=STRICT, host=HOST, run=needing(*files), decide=accept).learn()
    assert found.passes
    assert (len(found.lines), found.rounds, found.dropped) == (3, 4, ())


def test_it_ends_when_nothing_is_let_in(files: list[Path]) -> None:
    found = Learner(policy=STRICT, host=HOST, run=needing(*files), decide=lambda _: False).learn()
    assert (found.passes, found.policy, found.rounds, len(found.declined)) == (False, STRICT, 1, 1)


def test_it_ends_at_enough(files: list[Path]) -> None:
    def decide(proposal: Proposal) -> bool:
        if proposal.source.endswith("b"):
            raise Enough
        return True

    found = Learner(policy=STRICT, host=HOST, run=needing(*files), decide=decide).learn()
    assert [line.source for line in found.lines] == [str(files[0])]
    assert [line.source for line in found.declined] == [str(files[1])]


def test_rounds_are_bounded(files: list[Path]) -> None:
    found = Learner(policy=STRICT, host=HOST, run=needing(*files), decide=accept, rounds=2).learn()
    assert (found.rounds, len(found.lines), found.passes) == (2, 2, False)
    assert any("--rounds" in seen for seen in found.notes)


def test_what_a_program_does_without_is_dropped(files: list[Path]) -> None:
    def play(policy: Policy) -> list[LearnedRun]:
        there = {mount.target for mount in policy.filesystem.mounts}
        calls = [opened(str(path), error="" if str(path) in there else "ENOENT") for path in files]
        return [run(ended(stdout_bytes=b"%d" % (str(files[1]) in there)), *calls)]

    found = Learner(policy=STRICT, host=HOST, run=play, decide=accept).learn()
    assert [line.source for line in found.lines] == [str(files[1])]
    assert {line.source for line in found.dropped} == {str(files[0]), str(files[2])}


def test_where_outputs_cannot_be_compared_the_status_counts(files: list[Path]) -> None:
    numbers = iter(range(100))

    def play(policy: Policy) -> list[LearnedRun]:
        there = {mount.target for mount in policy.filesystem.mounts}
        missing = opened(str(files[0]), error="" if str(files[0]) in there else "ENOENT")
        return [run(ended(stdout_bytes=b"%d" % next(numbers)), missing)]

    assert Learner(policy=STRICT, host=HOST, run=play, decide=accept).learn().lines == ()


def test_a_mount_that_keeps_boxes_from_starting_is_not_let_in(files: list[Path]) -> None:
    play = needing(*files)

    def start(policy: Policy) -> Sequence[LearnedRun]:
        if policy.filesystem.mounts:
            raise SandboxStartError("no such thing")
        return play(policy)

    found = Learner(policy=STRICT, host=HOST, run=start, decide=accept).learn()
    assert found.policy == STRICT
    assert any("no such thing" in seen for seen in found.notes)


def test_all_sets_of_arguments_have_to_pass(files: list[Path]) -> None:
    plays = [needing(files[0]), needing(files[1])]
    both = Learner(
        policy=STRICT, host=HOST, run=lambda policy: [each for play in plays for each in play(policy)], decide=accept
    ).learn()
    assert (len(both.lines), both.rounds) == (2, 2)


def test_limits_go_up_step_by_step() -> None:
    def play(policy: Policy) -> list[LearnedRun]:
        enough = policy.limits.memory is not None and policy.limits.memory >= 1 << 30
        return [run(ended() if enough else ended("memory_limit", why="limits.memory"))]

    found = Learner(policy=STRICT, host=HOST, run=play, decide=accept).learn()
    assert [(line.key, line.value) for line in found.lines] == [("limits.memory", 1 << 30)]


def test_no_run_has_a_policy_that_changes_the_host(files: list[Path], tmp_path: Path) -> None:
    policy = evolve(
        STRICT,
        filesystem={"box": "rw", "mounts": [Mount("/a", str(tmp_path), mode="rw"), Mount("/b", files[0], mode="rw")]},
    )
    apart = for_learning(policy).filesystem
    assert apart.box == "overlay"
    assert [(mount.source, mount.mode) for mount in apart.mounts] == [(str(tmp_path), "overlay"), (b"", "memory")]
    assert for_learning(STRICT) is STRICT


def test_cut_output_is_no_pass() -> None:
    assert passes([run(ended())])
    assert not passes([run(ended(truncated=True))])
    assert not passes([run(ended()), run(ended("error"))])
    assert not passes([])


def test_a_mount_that_another_one_covers_is_not_added(tmp_path: Path) -> None:
    """As with `autopep8 -i`: its file is mounted, then the folder as an overlay, which shows the file, too."""
    file, folder = tmp_path / "code.py", str(tmp_path)
    file.write_text("")
    narrow, wide = Mount(str(file), str(file)), Mount(folder, folder, mode="overlay")
    assert with_mount(with_mount(STRICT, narrow), wide).filesystem.mounts[-1:] == (wide,)
    both = with_mount(with_mount(STRICT, wide), narrow)
    assert narrow not in both.filesystem.mounts
    for apart in (Mount(str(file), str(file), mode="rw"), Mount(str(file), b"other", mode="memory")):
        assert apart in with_mount(both, apart).filesystem.mounts
    hidden = with_mount(with_mount(with_mount(STRICT, wide), Mount(f"{folder}/inner", {}, mode="overlay")), narrow)
    assert narrow not in hidden.filesystem.mounts
    inner = Mount(f"{folder}/inner/x", f"{folder}/inner/x")
    assert inner in with_mount(hidden, inner).filesystem.mounts  # an empty folder is mounted between them


def test_a_policy_under_which_it_has_passed_is_not_given_up(files: list[Path]) -> None:
    """It also asks for a file that makes it fail when the file is there."""

    def play(policy: Policy) -> list[LearnedRun]:
        there = {mount.target for mount in policy.filesystem.mounts}
        calls = [opened(str(path), error="" if str(path) in there else "ENOENT") for path in files[:2]]
        if str(files[0]) not in there:
            return [run(failed("FileNotFoundError", ""), calls[0])]
        return [run(failed("OSError", "") if str(files[1]) in there else ended(), *calls)]

    found = Learner(policy=STRICT, host=HOST, run=play, decide=accept).learn()
    assert found.passes
    assert [line.source for line in found.lines] == [str(files[0])]
    assert [line.source for line in found.declined] == [str(files[1])]
    assert any("does not pass any more" in seen for seen in found.notes)


def test_exit_statuses_can_be_accepted() -> None:
    found = run(attrs.evolve(failed("SystemExit", ""), exit_code=1, status=Status.ERROR))
    assert not passes([found])
    assert passes([found], {0, 1})
    assert not passes([run(attrs.evolve(found.result, status=Status.TIME_LIMIT))], {0, 1})
