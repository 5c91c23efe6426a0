"""Trees of files: os.walk, glob, shutil, pathlib, zip and tar archives, fnmatch, filecmp."""

import filecmp
import glob
import hashlib
import os
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

root = Path(tempfile.mkdtemp())
os.chdir(root)
for number in range(3):
    for name in ("one.txt", "two.py", ".hidden", "ünï.txt"):
        path = Path(f"tree/d{number}/{'sub/' * number}{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number} {name}\n" * (number + 1), encoding="utf-8")
os.symlink("d0", "tree/link")
os.symlink("nowhere", "tree/broken")

print(*sorted((os.path.relpath(top, "tree"), sorted(dirs), sorted(files)) for top, dirs, files in os.walk("tree")), sep="\n")
print(sorted(top for top, _, _ in os.walk("tree", followlinks=True)))
print([top for top, _, _ in os.walk("tree", topdown=False)][-1])
print(sorted(top for top, _, _, fd in os.fwalk("tree")))
for pattern in ("tree/*", "tree/**/*.txt", "tree/d[12]/**", "**/.h*", "tree/d?/*.p?"):
    print(pattern, sorted(glob.glob(pattern, recursive=True)))
print(sorted(map(str, Path("tree").rglob("*.py"))), sorted(map(str, Path("tree").glob("*/one.*"))))

shutil.copytree("tree", "copy", symlinks=True, ignore=shutil.ignore_patterns("*.py"))
print(sorted(str(path) for path in Path("copy").rglob("*") if path.is_file()))
print(os.readlink("copy/link"), filecmp.cmp("tree/d0/one.txt", "copy/d0/one.txt", shallow=False))
difference = filecmp.dircmp("tree", "copy", ignore=[])
print(difference.common_dirs, difference.left_only, difference.subdirs["d0"].left_only)
shutil.move("copy/d0/one.txt", "copy/d1")
shutil.copy2("tree/d0/two.py", "copy/d1/three.py")
print(sorted(os.listdir("copy/d1")), os.stat("copy/d1/three.py").st_mtime_ns == os.stat("tree/d0/two.py").st_mtime_ns)
print(shutil.disk_usage(".").total > 0, shutil.which("no such program"))

for form in ("zip", "tar", "gztar", "bztar", "xztar"):
    archive = shutil.make_archive("packed", form, "tree")
    shutil.unpack_archive(archive, f"from-{form}")
    files = sorted(path for path in Path(f"from-{form}").rglob("*.txt"))
    digest = hashlib.sha1(b"".join(path.read_bytes() for path in files)).hexdigest()
    print(os.path.basename(archive), len(files), digest)
with tarfile.open("packed.tar.gz") as tar, zipfile.ZipFile("packed.zip") as archive:
    print(sorted(tar.getnames())[:4], len(archive.namelist()) > 5)

shutil.rmtree("copy")
print(os.path.exists("copy"), sorted(os.listdir("."))[:3])
path = Path("tree/d0/one.txt")
path.chmod(0o600)
print(oct(path.stat().st_mode), path.is_file(), path.exists(), path.resolve() == root.resolve() / path)
path.rename("tree/d0/renamed.txt").unlink()
Path("tree/d0/touched").touch(exist_ok=False)
print(sorted(os.listdir("tree/d0")), Path("~").expanduser() == Path.home(), Path.cwd() == Path(os.getcwd()))
shutil.rmtree(root)
print(root.exists())
