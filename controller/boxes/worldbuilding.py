"""Builds the world of a box from a policy: its mounts, the guest's identity, and what the guest inherits.

/usr/lib/pypy3.x, /usr/lib/x86_64-linux-gnu, /usr/share/zoneinfo ...   the host's own, read-only, shared, cached
/box        the program's folder      /tmp, /home/user   in memory
/dev /proc /etc                       made here           and the policy's own mounts
"""

import contextlib
import functools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from proxybox.controller import abi
from proxybox.controller.costs.steps import Steps
from proxybox.controller.errors import CannotCopy, SandboxStartError
from proxybox.controller.guests.guest import Guest
from proxybox.controller.vfs import namei
from proxybox.controller.vfs.descriptors import DescriptorTable
from proxybox.controller.vfs.host.boundary import why_no_mount
from proxybox.controller.vfs.host.filesystem import is_dotted
from proxybox.controller.vfs.host.library import altered_file, library, library_file
from proxybox.controller.vfs.host.mount import HostMount
from proxybox.controller.vfs.host.use import HostUse
from proxybox.controller.vfs.memory import MemoryDirectory, from_tree
from proxybox.controller.vfs.nodes import Credentials, Directory, Node, RegularFile, Superblock
from proxybox.controller.vfs.overlay.collecting import ChangesBudget, changes_of
from proxybox.controller.vfs.overlay.mount import Change, OverlayDirectory, OverlayMount
from proxybox.controller.vfs.pseudo.devices import dev_directory, open_standard
from proxybox.controller.vfs.pseudo.etc import Identity, etc_directory
from proxybox.controller.vfs.pseudo.generated import GeneratedFile
from proxybox.controller.vfs.pseudo.loadercache import visible_cache, without_processes
from proxybox.controller.vfs.pseudo.proc import ProcFacts, proc_directory, renumber
from proxybox.controller.vfs.quota import Quota
from proxybox.controller.vfs.tree import Tree
from proxybox.controller.world.clock import Clock
from proxybox.controller.world.output import OutputSink
from proxybox.controller.world.randomness import Randomness
from proxybox.controller.world.state import World
from proxybox.controller.world.stdin import Stdin
from proxybox.policies import Limits, Mount, Policy

if TYPE_CHECKING:
    from proxybox.controller.boxes.copyingfiles import Copier
    from proxybox.controller.vfs.commits.committing import Committed, Target

BOX = "/box"
#: Folders of the host that every box sees, read-only, where they exist: libraries load files from them after the seal.
SYSTEM_FOLDERS = (
    "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/locale", "/usr/lib/ssl", "/usr/share/zoneinfo",
    "/usr/share/terminfo", "/usr/lib/terminfo", "/usr/share/ca-certificates", "/etc/ssl/certs",
)  # fmt: skip
SYSTEM_FILES = ("/etc/ssl/openssl.cnf", "/etc/mime.types")
LOADER_CACHE = "/etc/ld.so.cache"
#: Symbolic links with the old names of folders that are in /usr today.
USR_LINKS = {"/lib": "usr/lib", "/lib64": "usr/lib64", "/bin": "usr/bin"}
PACKAGES = "/packages"
#: Paths that imports look up, and that do not lead into /proc: everything below the interpreter's folders and the first
#: folder of packages, and /box itself, which PyPy looks up at each import.
OUTSIDE_PROC = ("/usr/", PACKAGES, f"{PACKAGES}/", BOX)


@attrs.frozen(kw_only=True, eq=False)
class BoxFolder:
    """The content of /box.

    folder: the host folder that is shown, None for an empty one. single: the only file of `folder` that the program may
    see. holds_program: whether the program is, or may be, in `folder`; when it is not, a policy that copies folders
    (filesystem.box = "memory") leaves `folder` out. files: further files.
    """

    folder: str | None = None
    single: str | None = None
    holds_program: bool = True
    files: Mapping[str, bytes] = attrs.field(factory=dict)


@attrs.frozen
class Changed:
    """The changes in one overlay.

    source: the host folder below it, None for one that was given as data. left_out: how much is missing from the
    changes (collecting.py); if anything is, they cannot be committed. identity: device and inode of the source.
    """

    source: str | None
    hide_dotfiles: bool
    changes: tuple[Change, ...]
    left_out: int = 0
    identity: tuple[int, int] | None = None

    def hides(self, name: bytes) -> bool:
        """Whether entries of that name were hidden from the box."""
        return self.hide_dotfiles and is_dotted(name)

    def commit(self) -> list[Change]:
        """Does what `commit_all` does, for this overlay alone."""
        return commit_all([self])


def commit_all(overlays: Iterable[Changed]) -> list[Change]:
    """Writes the changes to the host folders below the overlays, all or none; returns those that were written.

    Raises what committing.commit raises, and SandboxStartError where a folder no longer exists.
    """
    from proxybox.controller.vfs.commits.committing import commit

    with _targets(overlays) as targets:
        return commit(targets)


def commit_and_keep_all(overlays: Iterable[Changed]) -> "Committed":
    """Does the same, and stores what it removes, so that the commit can be undone later."""
    from proxybox.controller.vfs.commits.committing import commit_and_keep

    with _targets(overlays) as targets:
        return commit_and_keep(targets)


@contextlib.contextmanager
def _targets(overlays: Iterable[Changed]) -> "Iterator[list[Target]]":
    from proxybox.controller.vfs.commits.committing import CommitRefused, Target

    with contextlib.ExitStack() as opened:
        targets = []
        for overlay in overlays:
            if overlay.source is not None and overlay.changes:
                mount = HostMount(overlay.source, Superblock(), writable=True, hide_dotfiles=overlay.hide_dotfiles)
                opened.callback(mount.close)
                if not isinstance(mount.root, Directory):
                    raise SandboxStartError(f"{overlay.source} is no folder any more")
                if overlay.identity not in (None, mount.host.identity):
                    raise CommitRefused([f"{overlay.source} is another folder than the box was given"])
                targets.append(Target(mount.host, overlay.changes, mount.hides, overlay.left_out))
        yield targets


class WorldBuilder:
    """Builds one world, and takes it down again."""

    def __init__(self, policy: Policy, guest: Guest, box: BoxFolder) -> None:
        self._policy = policy
        self._guest = guest
        self._box = box
        self._closing = contextlib.ExitStack()
        self._overlays: list[tuple[str, OverlayMount, str | None]] = []
        self._laid: dict[str, Node] = {}
        self._device = 1
        self._ahead: OverlayDirectory | None = None  # the content of /box before `enter`
        self._facts: ProcFacts
        self._proc: MemoryDirectory
        self.quota = Quota()
        self.steps = Steps()
        self.host_use = HostUse(self.quota)
        self.clock = Clock(policy.time)
        self.executable = guest.visible(guest.executable)
        self.world: World

    # --- the world ----------------------------------------------------------------------------------------------------

    def build(self, stdin: Stdin, stdout: OutputSink, stderr: OutputSink, *, with_box: bool = True) -> World:
        """Returns the world, with everything mounted and descriptors 0, 1 and 2 open.

        with_box: if false, /box is empty, and the caller calls `enter` later. Raises SandboxStartError.
        """
        policy = self._policy
        who = policy.environment
        credentials = Credentials(who.uid, who.gid)
        tree = Tree(MemoryDirectory(self._system_superblock()), self.steps)
        descriptors = DescriptorTable(policy.limits.open_files or 1 << 20)
        self.world = World(
            policy=policy, tree=tree, descriptors=descriptors, cwd=tree.root, credentials=credentials,
            clock=self.clock, quota=self.quota, randomness=Randomness(policy.randomness),
            stdin=stdin, stdout=stdout, stderr=stderr, allotment=self.host_use.allotment,
        )  # fmt: skip
        self._mount_own(tree)  # first: certificates and the loader's cache are mounted below /etc
        self._mount_system(tree)
        for mount in policy.filesystem.mounts:
            if not _is_in_box(mount.target):
                tree.mount(os.fsencode(mount.target), self._policy_mount(mount))
        self._mount_kernel(tree)
        if with_box:
            self.enter(self._box)
        else:
            self._mount_ahead(tree)
        return self.world

    def _mount_ahead(self, tree: Tree) -> None:
        """Mounts the /box of a program that is given as data, so that copies of this world have it already."""
        if self._policy.filesystem.box != "ro":
            self._ahead = self._overlay(BOX, self._tree_mount(BOX, {}, "memory"))
            tree.mount(BOX.encode(), self._ahead)

    def tighten(self, policy: Policy) -> None:
        """Replaces the limits of the world by those of one run, of which none is looser.

        Must be called before `enter`: after that, the quota counts.
        """
        if policy.limits != self._policy.limits:
            self._facts.memory = _shown_memory(policy)
            self.world.tighten(policy)
        self._policy = policy

    def enter(self, box: BoxFolder) -> None:
        """Completes /box, and makes the policy's working directory the current one. From here on the quota counts."""
        self._box = box
        tree, policy = self.world.tree, self._policy
        self.steps.lift()
        self._mount_box(tree)
        for mount in policy.filesystem.mounts:
            if _is_in_box(mount.target):
                tree.mount(os.fsencode(mount.target), self._policy_mount(mount))
        self.world.cwd = self._directory(tree, policy.environment.cwd, self.world.credentials)
        self.quota.allow(policy.limits.disk, policy.limits.files)
        self.steps.lift()

    def program_at(self, path: str) -> tuple[bytes | None, str | None]:
        """Returns the content that the caller gave for this path in /box, and the file's folder without symbolic links.

        Both are None where they are not known: the caller gave no such file, or one of the policy's mounts could cover
        it. Other files in /box may be links.
        """
        if not path.startswith(f"{BOX}/") or any(_is_in_box(mount.target) for mount in self._policy.filesystem.mounts):
            return None, None
        content = self._box.files.get(path[len(BOX) + 1 :])
        is_alone = content is not None and self._box.folder is None
        return content, os.path.dirname(path) if is_alone else None

    def copy(
        self, stdin: Stdin, stdout: OutputSink, stderr: OutputSink, *, pid: int, clock: Clock | None = None
    ) -> "WorldBuilder":
        """Returns a builder whose world is a copy of this world, and changes independently.

        The copy has its own streams and its own process id, and must be closed too. Meanwhile the guest of this world
        must be at rest. clock: used instead of a copy of this world's clock, in a world that is never changed.

        Raises CannotCopy; then nothing has changed.
        """
        from proxybox.controller.boxes.copying import check_copyable, copy_world
        from proxybox.controller.boxes.copyingfiles import Copier

        check_copyable(self.world)
        made = WorldBuilder(self._policy, self._guest, self._box)
        copier = Copier(made._closing, fill_later=clock is not None)
        if clock is not None:
            copier.stand_for(self.clock, clock)
        try:
            made._copy(self, copier, copy_world(copier, self.world, stdin, stdout, stderr, pid))
        except OSError as error:
            made._closing.close()
            raise CannotCopy(f"what the program has open on the host cannot be: {error.strerror}") from error
        except BaseException:
            made._closing.close()
            raise
        return made

    def _copy(self, old: "WorldBuilder", copier: "Copier", world: World) -> None:
        self.quota, self.clock, self.steps = world.quota, world.clock, world.steps
        self.host_use = copier.of(old.host_use)
        self._ahead, self._device = copier.of(old._ahead), old._device
        self._facts = copier.stand_for(old._facts, self._proc_facts(world))
        self._facts.cmdline = old._facts.cmdline
        self._proc = copier.of(old._proc)
        self._overlays = [(target, copier.of(overlay), source) for target, overlay, source in old._overlays]
        self._laid = {name: copier.of(node) for name, node in old._laid.items()}
        copier.finish()
        if world.process.pid != old.world.process.pid:
            renumber(self._proc, old.world.process.pid, world.process.pid)
        self.world = world

    def close(self) -> None:
        """Closes all files of the host that the world has open."""
        if hasattr(self, "world"):
            self.world.descriptors.close_all()
        self._closing.close()

    def changes(self) -> "tuple[Changed, ...]":
        """Returns what the guest has changed at /box and in the policy's overlays."""
        self.steps.lift()
        found: list[Changed] = []
        budget = ChangesBudget.of(self.quota)
        for target, overlay, source in self._overlays:
            prefix, left_out = "" if target == BOX else target, budget.left_out
            is_as_given = target == BOX and self._is_as_given(overlay)
            changes = [
                change
                for change in (() if is_as_given else changes_of(overlay, prefix, budget))
                if not (target == BOX and self._was_given(overlay, change))
            ]
            hides = self._policy.filesystem.hide_dotfiles
            identity = overlay.host.host.identity if overlay.host is not None else None
            found.append(Changed(source, hides, tuple(changes), budget.left_out - left_out, identity))
        return tuple(found)

    def _is_as_given(self, overlay: OverlayMount) -> bool:
        """Whether /box has only the caller's files, unchanged. Usually it is so, and then the tree is not walked."""
        children = overlay.root.children
        return (
            overlay.host is None
            and not overlay.whiteouts
            and len(children) == len(self._laid)
            and all(
                children.get(os.fsencode(name)) is node and _holds(node, self._box.files[name])
                for name, node in self._laid.items()
            )
        )

    def _was_given(self, overlay: OverlayMount, change: Change) -> bool:
        """Whether the change is only a file of the caller, unchanged.

        It must be that very file: the guest may have moved a host file with the same contents there.
        """
        if change.content is None or self._box.files.get(change.name) != change.content:
            return False
        node: Node | None = overlay.root
        for name in change.path.split(b"/"):
            node = node.children.get(name) if isinstance(node, MemoryDirectory) else None
        return node is not None and node is self._laid.get(change.name)

    def environment(self) -> dict[str, str]:
        """The guest's environment variables."""
        who = self._policy.environment
        variables = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": who.home,
            "USER": who.user,
            "LOGNAME": who.user,
            "LANG": who.locale,
            "PYTHONDONTWRITEBYTECODE": "1",  # a cache would be reported as a change that the program has made
            **self._guest.variables(),
        }
        if self._policy.randomness != "system":
            variables["PYTHONHASHSEED"] = str(int(self._policy.randomness) % (1 << 32))
        if self._guest.packages and not self._guest.reads_pth:
            variables["PYTHONPATH"] = ":".join(map(_target, range(len(self._guest.packages))))
        if self.world.stdout.is_tty or self.world.stderr.is_tty:
            variables |= self._of_terminal()
        return {**variables, **who.variables}

    def _of_terminal(self) -> dict[str, str]:
        """The variables of a terminal: where escapes are shown as text, those of one without escapes and colours."""
        if self._policy.output.escapes != "raw":
            return {"TERM": "dumb", "NO_COLOR": "1"}
        return {name: os.environ[name] for name in ("TERM", "NO_COLOR") if os.environ.get(name)}

    def _environ(self) -> bytes:
        return b"".join(os.fsencode(f"{name}={value}\0") for name, value in self.environment().items())

    def tell_words(self, words: Iterable[str]) -> None:
        """Sets what /proc/self/cmdline shows: the interpreter with these arguments."""
        self._facts.cmdline = tuple(map(os.fsencode, (self.executable, *words)))

    # --- mounts -------------------------------------------------------------------------------------------------------

    def _superblock(self, *, uid: int | None = None, gid: int | None = None, quota: Quota | None = None) -> Superblock:
        self._device += 1
        who = self._policy.environment
        return Superblock(
            dev=self._device,
            uid=who.uid if uid is None else uid,
            gid=who.gid if gid is None else gid,
            now=self.clock.wall_ns,
            clock_is_real=self._policy.time.kind == "real",
            quota=self.quota if quota is None else quota,
            steps=self.steps,
        )

    def _system_superblock(self) -> Superblock:
        """Returns the superblock of a mount that every box has: owned by root, and not charged to the quota."""
        return self._superblock(uid=0, gid=0, quota=Quota())

    def _mount_system(self, tree: Tree) -> None:
        """Mounts the interpreter's files, and the system's files that it loads."""
        guest = self._guest
        for target, node in _system_mounts(attrs.evolve(guest, packages=())):
            tree.mount(target, node)
        for name, leads_to in (*guest.links().items(), *USR_LINKS.items()):
            self._link(tree, os.fsencode(name), os.fsencode(leads_to))
        if guest.packages:
            self._mount_packages(tree)

    def _mount_packages(self, tree: Tree) -> None:
        """Mounts folders of packages, which the interpreter searches as it does its own: after its library.

        Their .pth files are read, too (site.addsitedir). As in a virtual environment, packages that are installed
        beside the interpreter are not visible.
        """
        guest, lines = self._guest, []
        for number, folder in enumerate(guest.packages):
            target = _target(number)
            tree.mount(os.fsencode(target), library(folder, os.fsencode(target), may_be_mapped=True).root)
            lines.append(f"import site; site.addsitedir({target!r})\n")
        if guest.reads_pth:
            place = os.fsencode(guest.visible(guest.installed_folders()[0]))
            tree.mount(place, from_tree({"packages.pth": "".join(lines).encode()}, self._system_superblock()))

    @staticmethod
    def _link(tree: Tree, path: bytes, target: bytes) -> None:
        """Makes a symbolic link that root owns."""
        root = Credentials(0, 0)
        namei.make_folders(tree, path, tree.root, root, 0o755)
        with contextlib.suppress(FileExistsError):
            namei.symlink(tree, target, path, tree.root, root)

    def _mount_own(self, tree: Tree) -> None:
        """Mounts /etc, /tmp and the user's home."""
        who = self._policy.environment
        identity = Identity(
            user=who.user, uid=who.uid, gid=who.gid, group=who.user, home=who.home, hostname=who.hostname
        )
        etc = etc_directory(self._system_superblock(), identity)
        tree.mount(b"/etc", etc)
        tree.mount(b"/tmp", MemoryDirectory(self._superblock(uid=0, gid=0), 0o1777))
        tree.mount(os.fsencode(who.home), MemoryDirectory(self._superblock(), 0o755))

    def _mount_kernel(self, tree: Tree) -> None:
        """Mounts /dev and /proc. No later mount covers them, because all later mounts are below /box."""
        world = self.world
        # The streams belong to the guest. The folder /dev does not, so nothing in it is charged to the quota.
        nodes = self._superblock(quota=Quota())
        dev = dev_directory(nodes, world.randomness.give, world.stdin, world.stdout)
        dev.chown(0, 0)
        tree.mount(b"/dev", dev)
        tree.mount(b"/dev/shm", MemoryDirectory(self._superblock(uid=0, gid=0), 0o1777))
        for file in open_standard(nodes, world.stdin, world.stdout, world.stderr):
            world.descriptors.install(file)
        self._facts = self._proc_facts(world)
        self._proc = proc_directory(self._system_superblock(), self._facts)
        tree.mount(b"/proc", self._proc)

    def _proc_facts(self, world: World) -> ProcFacts:
        who = self._policy.environment
        return ProcFacts(
            tree=world.tree, descriptors=world.descriptors, credentials=world.credentials, cwd=lambda: world.cwd,
            cmdline=(os.fsencode(self.executable),), environ=self._environ,
            exe=os.fsencode(self.executable), pid=world.process.pid,
            ppid=world.process.ppid, hostname=who.hostname, cpu_count=who.cpu_count,
            memory=_shown_memory(self._policy), tids=lambda: [thread.tid for thread in world.threads],
            umask=lambda: world.umask, uptime_ns=lambda: self.clock.peek_ns(abi.CLOCK_BOOTTIME),
            cpu_ns=self.clock.cpu_ns,
            boot_time=self._boot_time,
        )  # fmt: skip

    def _boot_time(self) -> int:
        """The boot time of the box's machine, in seconds since the epoch."""
        return (self.clock.peek_ns(abi.CLOCK_REALTIME) - self.clock.peek_ns(abi.CLOCK_BOOTTIME)) // abi.NS

    def _mount_box(self, tree: Tree) -> None:
        """Mounts the program's folder at /box, in the policy's mode, and lays the caller's files over it."""
        box, mode, stands_alone = self._box, self._policy.filesystem.box, False
        root = self._root_of_box()
        if root is None and self._ahead is not None:
            stands_alone = True
        else:  # this covers the mount of `_mount_ahead`
            self._overlays = [each for each in self._overlays if each[1].root is not self._ahead]
            if root is None:
                root = self._tree_mount(BOX, {}, "ro" if mode == "ro" else "overlay")
            tree.mount(BOX.encode(), root)
        if box.folder is not None and box.single is not None:
            path = os.path.join(box.folder, box.single)
            tree.mount(os.fsencode(f"{BOX}/{box.single}"), self._host(path, f"{BOX}/{box.single}", mode == "rw"))
        for name, data in box.files.items():
            try:
                self._laid[name] = self._lay(tree, name, data, stands_alone and "/" not in name)
            except OSError as error:
                raise SandboxStartError(f"files: {name}: {error.strerror}") from error

    def _root_of_box(self) -> Node | None:
        """Returns the root node of /box for the caller's folder; None where there is no folder: then /box is empty."""
        box, mode = self._box, self._policy.filesystem.box
        if box.folder is None:
            return None
        if box.single is not None:
            return self._tree_mount(BOX, {}, "overlay" if mode in ("overlay", "rw") else mode)
        if mode != "memory":
            return self._host_mount(BOX, box.folder, mode)
        return self._overlay(BOX, self._copy_of(box.folder)) if box.holds_program else None

    def _lay(self, tree: Tree, name: str, data: bytes, is_new: bool) -> Node:
        """Writes one of the caller's files into /box: into its overlay, or over a folder that cannot be written.

        is_new: whether the name is certainly free, and no link can lead to another place. Raises OSError.
        """
        who, path = self.world.credentials, os.fsencode(f"{BOX}/{name}")
        if is_new and self._ahead is not None:
            file = self._ahead.create(os.fsencode(name), self._ahead.mode_of_new(0o644, 0), who).open(abi.O_WRONLY)
        else:
            namei.make_folders(tree, path, tree.root, who, 0o755)
            file = namei.open_file(tree, path, tree.root, who, abi.O_WRONLY | abi.O_CREAT | abi.O_TRUNC, 0o644)
        file.write(data)
        file.close()
        return file.node

    def _copy_of(self, folder: str) -> Directory:
        """Copies the folder into memory; it may have as many bytes as the policy lets the box add."""
        from proxybox.controller.vfs.snapshot import copy_of

        limits = self._policy.limits
        quota = Quota(bytes=limits.disk, inodes=limits.files, parent=self.quota)
        mount = HostMount(folder, self._superblock(), hide_dotfiles=self._policy.filesystem.hide_dotfiles)
        with contextlib.closing(mount):
            try:
                if not isinstance(mount.root, Directory):
                    raise ValueError("it is no folder")
                return copy_of(mount.root, self._superblock(quota=quota))
            except (OSError, ValueError) as error:
                why = _too_much(limits) if quota.exceeded else error
                raise SandboxStartError(f"{folder} cannot be copied into the box: {why}") from error

    def _host(self, source: str, target: str, writable: bool, names: tuple[str, ...] | None = None) -> Node:
        hide = self._policy.filesystem.hide_dotfiles
        mount = HostMount(
            source, self._superblock(), writable=writable, hide_dotfiles=hide, target=os.fsencode(target),
            use=self.host_use, names=names,
        )  # fmt: skip
        self._closing.callback(mount.close)
        return mount.root

    def _host_mount(
        self, target: str, source: str, mode: str, quota: Quota | None = None, names: tuple[str, ...] | None = None
    ) -> Node:
        root = self._host(source, target, mode == "rw", names)
        return self._overlay(target, root, quota, source) if mode == "overlay" else root

    def _overlay(
        self, target: str, lower: Node, quota: Quota | None = None, source: str | None = None
    ) -> OverlayDirectory:
        if not isinstance(lower, Directory):
            raise SandboxStartError(f"{target}: a single file cannot be mounted as an overlay: use ro, rw or memory")
        overlay = OverlayMount(lower, self._superblock(quota=quota))
        self._overlays.append((target, overlay, source))
        return overlay.root

    def _tree_mount(self, target: str, content: Any, mode: str, quota: Quota | None = None) -> Node:
        if isinstance(content, bytes):
            single = from_tree({"file": content}, self._superblock(quota=quota))
            single.superblock.read_only = mode == "ro"
            return single.lookup(b"file")
        root = from_tree(content, self._superblock(quota=quota))
        root.superblock.read_only = mode == "ro"
        return self._overlay(target, root, quota) if mode == "overlay" else root

    def _policy_mount(self, mount: Mount) -> Node:
        """Makes one of the policy's own mounts."""
        source, quota = mount.source, None
        if mount.size is not None or mount.files is not None:
            quota = Quota(bytes=mount.size, inodes=mount.files, parent=self.quota)
        if source is None:
            return MemoryDirectory(self._superblock(quota=quota), 0o755)
        if isinstance(source, str):
            if why := why_no_mount(source):
                raise SandboxStartError(f"mount {mount.target}: {source} {why}")
            return self._host_mount(mount.target, source, mount.mode, quota, mount.names)
        if callable(source):
            return GeneratedFile(self._superblock(), source)
        return self._tree_mount(mount.target, source, mount.mode, quota)

    @staticmethod
    def _directory(tree: Tree, path: str, credentials: Credentials) -> Directory:
        try:
            node = tree.resolve(os.fsencode(path), tree.root, credentials)
        except OSError as error:
            raise SandboxStartError(f"environment.cwd: {path}: {error.strerror}") from error
        if not isinstance(node, Directory):
            raise SandboxStartError(f"environment.cwd: {path} is not a folder")
        return node


def _shown_memory(policy: Policy) -> int:
    """Returns how much memory a box sees on its machine, in bytes."""
    return policy.limits.memory or 4 << 30


def _target(number: int) -> str:
    """Returns the path of a folder of packages in the box."""
    return f"{PACKAGES}{number or ''}"


@functools.lru_cache(maxsize=16)
def _system_mounts(guest: Guest) -> tuple[tuple[bytes, Node], ...]:
    """Returns what every box with this interpreter sees of the host.

    The host's folders are looked up once, because libraries do not change meanwhile.
    """
    system = (*(folder for folder in SYSTEM_FOLDERS if not os.path.islink(folder)), *SYSTEM_FILES)
    own = tuple(guest.files())
    found: list[tuple[bytes, Node]] = []
    for path, seen in (*own, *(zip(system, system, strict=True) if guest.loads_system_libraries else ())):
        target = os.fsencode(seen)
        if os.path.isdir(path):
            found.append((target, library(path, target, may_be_mapped=(path, seen) in own).root))
        elif os.path.isfile(path):
            found.append((target, library_file(path, target)))
    return (*found, *_altered_files(guest)) if guest.loads_system_libraries else tuple(found)


def _altered_files(guest: Guest) -> Iterator[tuple[bytes, Node]]:
    """Yields the files whose contents a box sees altered: the loader's cache and ctypes/util.py."""
    ctypes = f"{guest.library}/ctypes/util.py"
    for file, target, alter in (
        (LOADER_CACHE, LOADER_CACHE, lambda data: visible_cache(data, SYSTEM_FOLDERS)),
        (ctypes, guest.visible(ctypes), without_processes),
    ):
        node = altered_file(file, os.fsencode(target), alter) if os.path.isfile(file) else None
        if node is not None:
            yield os.fsencode(target), node


def _too_much(limits: Limits) -> str:
    """Returns why a folder is not copied, and what to do about it."""
    size = "" if limits.disk is None else f"{limits.disk:,} bytes (limits.disk)"
    files = "" if limits.files is None else f"{limits.files:,} files and folders (limits.files)"
    most = " or ".join(filter(None, (size, files))) or "half of the machine's memory"
    return (
        f"it holds more than {most}. Put the program into a folder of its own, raise the limit, or choose another "
        'filesystem.box than "memory": the others copy nothing'
    )


def _holds(node: Node, content: bytes) -> bool:
    return isinstance(node, RegularFile) and node.size() == len(content) and node.whole() == content


def _is_in_box(target: str) -> bool:
    return f"{target}/".startswith(f"{BOX}/")


class WorldTemplate:
    """A world without a program, from which the worlds of a policy's boxes are copied. Can be used from any thread.

    Copying this world takes half the time of building one.
    """

    def __init__(self, policy: Policy, guest: Guest) -> None:
        self.guest = guest
        self._policy = policy
        self._builder: WorldBuilder | None = None
        self._lock = threading.Lock()

    def make(self, stdin: Stdin, stdout: OutputSink, stderr: OutputSink) -> WorldBuilder:
        """Returns a builder with a copy of it; the caller calls `enter` next. Raises SandboxStartError."""
        with self._lock:
            if self._builder is None:
                self._builder = WorldBuilder(self._policy, self.guest, BoxFolder())
                output = OutputSink("stdout"), OutputSink("stderr")
                self._builder.build(Stdin(), *output, with_box=False)
            pid = self._builder.world.process.pid
            return self._builder.copy(stdin, stdout, stderr, pid=pid, clock=Clock(self._policy.time))

    def close(self) -> None:
        """Closes all files of the host that it has open."""
        with self._lock:
            builder, self._builder = self._builder, None
        if builder is not None:
            builder.close()
