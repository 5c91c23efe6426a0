"""Rights that a walk and a change need: of the caller, for the directory and the entry, on a mount that allows them."""

import errno
import stat

import pytest

from proxybox.controller.abi import R_OK, W_OK
from proxybox.controller.errors import Denied
from proxybox.controller.vfs import namei
from proxybox.controller.vfs.memory import MemoryDirectory, from_tree
from proxybox.controller.vfs.nodes import Credentials, Superblock
from proxybox.controller.vfs.tree import Tree

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
    """inode_permission() in fs/namei.c: EROFS for regular files, folders and links, whatever their modes say."""
    namei.symlink(tree, b"file", b"/folder/link", tree.root, OWNER)
    node = tree.resolve(b"/folder/" + name, tree.root, OWNER, follow=False)
    node.superblock.read_only = True
    namei.need(node, OWNER, R_OK)
    with pytest.raises(Denied) as caught:
        namei.need(node, OWNER, W_OK)
    assert caught.value.errno == errno.EROFS


def test_what_one_user_has_found_is_not_kept_for_another(tree: Tree) -> None:
    folder_of(tree).chmod(0o700)
    for _ in range(2):  # walked, and kept
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
