"""The order in which the steps of a commit are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxybox.controller.vfs.commits.journal import Act, Step

_OPEN = 0o300  # without these bits of a folder's mode, its owner cannot change its entries


def in_order(steps: Sequence[Step], gone: Mapping[int, set[bytes]], come: Mapping[int, set[bytes]]) -> tuple[Step, ...]:
    """Orders the steps: contents are removed after they are in their new place, and folders are closed at the end.

    gone, come: the contents that the step of each slot takes away, or brings. When steps need each other in a circle,
    the contents stay in the commit's own folder meanwhile.
    """
    by_act: dict[Act, list[Step]] = {act: [] for act in Act}
    for step in steps:
        by_act[step.act].append(step)
    modes = sorted(by_act[Act.MODE], key=lambda step: (-step.place.count(b"/"), step.place))
    first = [step for step in modes if _opens(step)]
    last = [step for step in modes if not _opens(step)]
    swaps = _after_what_they_need(by_act[Act.SWAP], gone, come)
    return (*first, *by_act[Act.PUT], *swaps, *by_act[Act.TAKE], *by_act[Act.PART], *by_act[Act.APART], *last)


def _opens(step: Step) -> bool:
    return step.mode & _OPEN == _OPEN and step.old_mode & _OPEN != _OPEN


def _after_what_they_need(
    swaps: Sequence[Step], gone: Mapping[int, set[bytes]], come: Mapping[int, set[bytes]]
) -> list[Step]:
    """Puts each step after the steps that bring the contents which it takes away.

    It is a depth-first walk without recursion, which also ends when there are circles.
    """
    bringing: dict[bytes, list[Step]] = {}
    for step in swaps:
        for content in come[step.slot]:
            bringing.setdefault(content, []).append(step)
    ordered: list[Step] = []
    seen: set[int] = set()
    for start in swaps:
        left = [(start, False)]
        while left:
            step, is_ready = left.pop()
            if is_ready:
                ordered.append(step)
            elif step.slot not in seen:
                seen.add(step.slot)
                left.append((step, True))
                for content in gone[step.slot]:
                    left.extend((other, False) for other in bringing.pop(content, ()))
    return ordered
