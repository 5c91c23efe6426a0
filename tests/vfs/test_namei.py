"""Permissions that a walk and a change need: of the caller, for the directory and the entry, and a writable mount."""

import errno
import os
import stat

import pytest

from proxybox.controller.abi import PATH_MAX, R_OK, W_OK
from proxybox.controller.errors import Denied
from proxybox.controller.vfs import namei
from proxybox.controller.vfs.memory import MemoryDirectory, from_tree
from proxybox.controller.vfs.nodes import Credentials, Superblock
from proxybox.controller.vfs.overlay.mount import OverlayMount
from proxybox.controller.vfs.streams import pipe
from proxybox.controller.vfs.tree import MAX_CACHED, MAX_CACHED_PATH, MAX_SYMLINKS, Tree
from tests.vfs.conftest import errno_of

ROOT, OWNER, OTHER, THIRD = (Credentials(uid, uid) for uid in (0, 1000, 1001, 1002))


@pytest.fixture
def tree() -> Tree:
    return Tree(from_tree({"folder": {"file": "x"}}, Superblock()))


def folder_of(tree: Tree) -> MemoryDirectory:
    folder = tree.resolve(b"/folder", tree.root, ROOT)
    assert isinstance(folder, MemoryDirectory)
    return folder


@pytest.mark.parametrize("name", [b"file", b"link", b"."])
def test_a_link_on_a_read_only_mount_cannot_be_written_either(tree: Tree, name: bytes) -> None:
    """inode_permission() in fs/namei.c: EROFS for regular files, folders and links, whatever their modes are."""
    namei.symlink(tree, b"file", b"/folder/link", tree.root, OWNER)
    node = tree.resolve(b"/folder/" + name, tree.root, OWNER, follow=False)
    node.superblock.read_only = True
    namei.need(node, OWNER, R_OK)
    with pytest.raises(Denied) as caught:
        namei.need(node, OWNER, W_OK)
    assert caught.value.errno == errno.EROFS


def test_what_one_user_has_found_is_not_kept_for_another(tree: Tree) -> None:
    folder_of(tree).chmod(0o700)
    for _ in range(2):  # walked, and then from the cache
        assert tree.resolve(b"/folder/file", tree.root, OWNER).kind == stat.S_IFREG
        assert tree.is_kept(b"/folder/file", follow=True)
        for follow in (True, False):
            with pytest.raises(OSError, match="no search permission"):
                tree.resolve(b"/folder/file", tree.root, OTHER, follow=follow)
    with pytest.raises(OSError, match="no such entry"):
        tree.resolve(b"/folder/none", tree.root, OWNER)
    with pytest.raises(OSError, match="no search permission"):
        tree.resolve(b"/folder/none", tree.root, OTHER)


def test_what_one_user_has_found_is_not_walked_again(tree: Tree) -> None:
    for user in (OWNER, OTHER, OWNER):
        tree.resolve(b"/folder/file", tree.root, user)
        tree.steps.renew()
        before = tree.steps.left
        tree.resolve(b"/folder/file", tree.root, user)
        assert tree.steps.left == before


@pytest.mark.parametrize(
    ("user", "may"), [(ROOT, True), (OWNER, True), (OTHER, True), (THIRD, False)],
    ids=["root", "owner of the folder", "owner of the file", "another"],
)  # fmt: skip
def test_who_may_remove_from_a_sticky_folder(tree: Tree, user: Credentials, may: bool) -> None:
    """The sticky bit in inode(7): the owner of the file, that of the folder, and root."""
    folder = folder_of(tree)
    folder.chmod(0o1777)
    node = folder.create(b"theirs", 0o600, OTHER)
    if may:
        namei.may_delete(tree, folder, b"theirs", node, user)
    else:
        with pytest.raises(OSError, match="sticky") as caught:
            namei.may_delete(tree, folder, b"theirs", node, user)
        assert caught.value.errno == errno.EPERM
    folder.chmod(0o777)
    namei.may_delete(tree, folder, b"theirs", node, THIRD)


ON_READ_ONLY = {
    "unlink": (errno.EROFS, lambda tree: namei.unlink(tree, b"/folder/file/", tree.root, OTHER)),
    "unlink of nothing": (errno.ENOENT, lambda tree: namei.unlink(tree, b"/folder/none", tree.root, OTHER)),
    "rmdir": (errno.EROFS, lambda tree: namei.rmdir(tree, b"/folder/file", tree.root, OTHER)),
    "rename": (errno.EROFS, lambda tree: namei.rename(tree, b"/folder/no", tree.root, b"/folder/x", tree.root, OTHER)),
    "link": (errno.EROFS, lambda tree: namei.link(tree, MemoryDirectory(Superblock()), b"/folder/x", tree.root, OTHER)),
    "mkdir": (errno.EEXIST, lambda tree: namei.mkdir(tree, b"/folder/file", tree.root, OTHER, 0o755)),
    "chmod": (errno.EROFS, lambda tree: namei.chmod(folder_of(tree), OTHER, 0o700)),
    "chown": (errno.EROFS, lambda tree: namei.chown(folder_of(tree), OTHER, 0, 0)),
    "utimens": (errno.EROFS, lambda tree: namei.utimens(folder_of(tree), OTHER, 0, 0, touch=False)),
    "utimens that sets nothing": (0, lambda tree: namei.utimens(folder_of(tree), OTHER, None, None, touch=False)),
    "access": (errno.EROFS, lambda tree: namei.access(folder_of(tree), OTHER, W_OK)),
}


@pytest.mark.parametrize("name", ON_READ_ONLY)
def test_what_a_read_only_mount_answers_to_another_user(tree: Tree, name: str) -> None:
    """First the call checks whether the entry exists, then the mount, then permissions and kinds."""
    folder_of(tree).superblock.read_only = True
    code, call = ON_READ_ONLY[name]
    assert errno_of(lambda: call(tree)) == code


def test_who_only_asks_for_access_is_denied_nothing(tree: Tree) -> None:
    folder_of(tree).superblock.read_only = True
    with pytest.raises(OSError, match="read-only") as caught:
        namei.access(folder_of(tree), OWNER, W_OK)
    assert not isinstance(caught.value, Denied)


@pytest.mark.parametrize(("user", "uid", "gid", "may"), [
    (OWNER, -1, 5, True), (OWNER, 1000, 5, True), (OWNER, -1, 6, False), (OWNER, 1001, -1, False),
    (OWNER, -1, 1000, True), (OTHER, -1, 5, False), (OTHER, 1000, -1, False), (OTHER, -1, 1000, False),
    (ROOT, 7, 8, True), (OTHER, -1, -1, True),
])  # fmt: skip
def test_who_may_give_a_file_to_whom(tree: Tree, user: Credentials, uid: int, gid: int, may: bool) -> None:
    """chown(2): an unprivileged user must own the file, and may only give it to a group of theirs."""
    node = folder_of(tree).create(b"new", 0o6755, OWNER)
    user = Credentials(user.uid, user.gid, frozenset({5}))
    if may:
        namei.chown(node, user, uid, gid)
        now = node.stat()
        assert (now.uid, now.gid) == (1000 if uid == -1 else uid, 1000 if gid == -1 else gid)
        assert now.mode & 0o7777 == (0o6755 if (uid, gid) == (-1, -1) else 0o755)
    else:
        with pytest.raises(OSError, match="not the owner"):
            namei.chown(node, user, uid, gid)


@pytest.mark.parametrize(
    ("user", "keeps"), [(OWNER, False), (Credentials(1000, 1, frozenset({9})), True), (ROOT, True)]
)
def test_who_may_set_the_group_s_bit(tree: Tree, user: Credentials, keeps: bool) -> None:
    node = folder_of(tree).create(b"new", 0o600, OWNER)
    namei.chown(node, ROOT, -1, 9)
    namei.chmod(node, user, 0o6755)
    assert node.stat().mode & 0o7777 == (0o6755 if keeps else 0o4755)


def test_an_open_file_has_the_path_that_its_name_has_now(tree: Tree) -> None:
    def shown(path: bytes, flags: int = os.O_RDONLY) -> bytes:
        file = namei.open_file(tree, path, folder_of(tree), OWNER, flags, 0o600)
        before = namei.path_of(tree, file)
        namei.rename(tree, b"/folder", tree.root, b"/moved", tree.root, ROOT)
        assert namei.path_of(tree, file) == before.replace(b"/folder", b"/moved")
        namei.rename(tree, b"/moved", tree.root, b"/folder", tree.root, ROOT)
        if not flags & os.O_PATH:
            namei.unlink(tree, path, folder_of(tree), OWNER)
            assert namei.path_of(tree, file) == before + b" (deleted)"
        return before

    assert shown(b"file") == b"/folder/file"
    assert shown(b"/folder/new", os.O_CREAT | os.O_WRONLY) == b"/folder/new"
    assert shown(b".", os.O_PATH) == b"/folder"
    namei.mkdir(tree, b"/folder/sub", tree.root, OWNER, 0o755)
    file = namei.open_file(tree, b"/folder/sub/x", tree.root, OWNER, os.O_CREAT | os.O_RDWR, 0o600)
    namei.unlink(tree, b"/folder/sub/x", tree.root, OWNER)
    namei.rmdir(tree, b"/folder/sub", tree.root, OWNER)
    assert namei.path_of(tree, file) == b"/x (deleted)"
    unnamed = namei.open_file(tree, b"/folder", tree.root, OWNER, os.O_TMPFILE | os.O_RDWR, 0o600)
    assert namei.path_of(tree, unnamed) == b"anon_inode:[file]"
    end = pipe(Superblock())[0]
    assert namei.path_of(tree, end) == b"pipe:[%d]" % end.node.stat().ino


def test_an_unnamed_file(tree: Tree) -> None:
    """O_TMPFILE in open(2)."""
    flags = os.O_TMPFILE | os.O_RDWR | os.O_EXCL | os.O_TRUNC
    file = namei.open_file(tree, b"/folder", tree.root, OWNER, flags, 0o17667, umask=0o022)
    assert (file.node.stat().mode, file.flags & (os.O_EXCL | os.O_TRUNC)) == (stat.S_IFREG | 0o7645, 0)
    for path, user, code in ((b"/folder", OTHER, errno.EACCES), (b"/folder/file", OWNER, errno.ENOTDIR)):
        with pytest.raises(OSError) as caught:
            namei.open_file(tree, path, tree.root, user, flags, 0o600)
        assert caught.value.errno == code


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_CREAT | os.O_WRONLY])
@pytest.mark.parametrize("links", [MAX_SYMLINKS, MAX_SYMLINKS + 1])
def test_so_many_links_are_followed(tree: Tree, flags: int, links: int) -> None:
    target = b"file"
    for number in range(links):
        namei.symlink(tree, target, b"/folder/%d" % number, tree.root, OWNER)
        target = b"%d" % number
    found = errno_of(lambda: namei.open_file(tree, b"/folder/" + target, tree.root, OWNER, flags, 0o600))
    assert found == (0 if links == MAX_SYMLINKS else errno.ELOOP)


def test_folders_on_the_way_are_made_each_with_steps_of_its_own(tree: Tree) -> None:
    path = b"/folder/" + b"x/" * 500 + b"file"
    tree.steps.left = 0
    namei.make_folders(tree, path, tree.root, OWNER, 0o777, umask=0o027)
    tree.steps.renew()
    assert tree.resolve(path[:-5], tree.root, OWNER).stat().mode == stat.S_IFDIR | 0o750
    assert [name for name, _, _ in tree.root.entries()] == [b"folder"]
    with pytest.raises(OSError, match="no such entry"):
        tree.resolve(path, tree.root, OWNER)


# --- the tree itself ---


@pytest.mark.parametrize(
    ("target", "words"),
    [(b"m", "absolute"), (b"/a/../b", "absolute"), (b"/./b", "absolute"), (b"/folder/file/m", "on the way")],
)
def test_where_nothing_can_be_mounted(tree: Tree, target: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tree.mount(target, MemoryDirectory(Superblock()))


def test_what_cannot_be_mounted(tree: Tree) -> None:
    with pytest.raises(ValueError, match="only a directory"):
        tree.mount(b"/", tree.resolve(b"/folder/file", tree.root, ROOT))
    mounted = MemoryDirectory(Superblock())
    tree.mount(b"/m", mounted)
    with pytest.raises(ValueError, match="twice"):
        tree.mount(b"/n", mounted)


@pytest.mark.parametrize("shared", [False, True])
def test_a_mount_covers_what_was_found_there(tree: Tree, shared: bool) -> None:
    assert tree.resolve(b"/folder", tree.root, OWNER).superblock is tree.root.superblock
    mounted = from_tree({"file": "y"}, Superblock(shared=shared))
    tree.mount(b"/folder", mounted)
    assert tree.resolve(b"/folder", tree.root, OWNER) is mounted
    assert tree.mounts() == [(b"/", tree.root), (b"/folder", mounted)]
    for node in (tree.root, mounted):
        assert (node.superblock.forget == tree.forget, node.superblock.steps is tree.steps) == (
            (False, False) if node is mounted and shared else (True, True)
        )
    root = MemoryDirectory(Superblock())
    tree.mount(b"/", root)
    assert tree.resolve(b"/", root, OWNER) is tree.root is root


def test_a_folder_that_leads_to_a_mount_in_another_filesystem(tree: Tree) -> None:
    """It is made in memory where possible, and otherwise mounted read-only: nothing below is written."""
    tree.mount(b"/over", OverlayMount(from_tree({}, Superblock()), Superblock(uid=OWNER.uid)).root)
    for path in (b"/over/way/m", b"/folder/way/m"):
        tree.mount(path, MemoryDirectory(Superblock()))
    for path, code in ((b"/over/way/new", errno.EROFS), (b"/folder/way/new", 0)):
        above = tree.resolve(path[:-4], tree.root, OWNER)
        assert tree.path_of(above) == path[:-4]
        assert above.superblock.forget == tree.forget
        assert errno_of(lambda path=path: namei.mkdir(tree, path, tree.root, OWNER, 0o755)) == code
    for path in (b"/over/way", b"/folder/way"):
        with pytest.raises(OSError) as caught:
            namei.rmdir(tree, path, tree.root, ROOT)
        assert caught.value.errno == errno.EBUSY
    assert tree.resolve(b"/over/way/m/../..", tree.root, OWNER) is tree.resolve(b"/over", tree.root, OWNER)


@pytest.mark.parametrize("last", [247, 248])
def test_the_path_of_a_folder_has_a_length_at_most(tree: Tree, last: int) -> None:
    folder = folder_of(tree)
    for name in [b"n" * 255] * 15 + [b"n" * last]:
        folder = folder.mkdir(name, 0o755, OWNER)
    assert errno_of(lambda: tree.path_of(folder)) == (0 if last == 247 else errno.ENAMETOOLONG)
    assert last != 247 or len(tree.path_of(folder)) == PATH_MAX - 1


def test_names_and_paths_have_a_length_at_most(tree: Tree) -> None:
    name, path = b"n" * 255, b"/folder/" + b"/" * (PATH_MAX - 13) + b"file"
    namei.mkdir(tree, b"/folder/" + name, tree.root, OWNER, 0o755)
    assert tree.lookup(folder_of(tree), name) is tree.resolve(b"/folder/" + name, tree.root, OWNER)
    assert tree.resolve(path, tree.root, OWNER) is tree.resolve(b"/folder/file", tree.root, OWNER)
    for call in (
        lambda: tree.resolve(b"/" + path, tree.root, OWNER), lambda: tree.resolve_parent(b"/" + path, tree.root, OWNER),
        lambda: tree.lookup(folder_of(tree), name + b"n"), lambda: tree.resolve(name + b"n", tree.root, OWNER),
    ):  # fmt: skip
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.ENAMETOOLONG


def test_what_is_kept_of_walks_is_bounded_and_forgotten(tree: Tree) -> None:
    def is_kept(path: bytes, follow: bool = True) -> bool:
        tree.steps.renew()
        tree.resolve(path, tree.root, OWNER, follow=follow)
        return tree.is_kept(path, follow)

    namei.symlink(tree, b"file", b"/folder/link", tree.root, OWNER)
    assert is_kept(b"/folder/link")
    assert not tree.is_kept(b"/folder/link", follow=False)
    assert is_kept(b"/folder/link", follow=False)
    assert not is_kept(b"folder/link")
    folder_of(tree).chmod(0o755)
    assert not tree.is_kept(b"/folder/link", follow=True)
    assert not tree.is_kept(b"/folder/link", follow=False)
    longest = b"/folder" + b"/" * (MAX_CACHED_PATH - 11) + b"file"
    assert is_kept(longest)
    assert not is_kept(b"/" + longest)
    assert is_kept(b"/folder/file")
    for number in range(MAX_CACHED - 2):
        tree._followed[b"%d" % number] = tree.root
    assert is_kept(b"/folder")
    assert not tree.is_kept(b"0", follow=True)


def test_what_a_link_costs_and_what_it_ends_with(tree: Tree) -> None:
    namei.symlink(tree, b"./file", b"/folder/link", tree.root, OWNER)
    namei.symlink(tree, b"file/", b"/folder/slash", tree.root, OWNER)
    tree.steps.renew()
    before = tree.steps.left
    tree.resolve(b"/folder/link", tree.root, OWNER)
    assert before - tree.steps.left == 2 + 2 + 1  # the names of the path, the names of the link, and the link
    for path in (b"/folder/slash", b"/folder/file/x"):
        for _ in range(2):  # walked, and then from the cache
            assert errno_of(lambda path=path: tree.resolve(path, tree.root, OWNER)) == errno.ENOTDIR
    tree.root.superblock.read_only = True
    flags = os.O_NOFOLLOW | os.O_WRONLY
    assert errno_of(lambda: namei.open_file(tree, b"/folder/link", tree.root, OWNER, flags, 0)) == errno.ELOOP
