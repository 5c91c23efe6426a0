"""What pyproject.toml cannot say: the folders that make the package, and the C step.

controller/ and policies/ stand at the top of the tree and are installed as proxybox.controller and
proxybox.policies. A checkout has symlinks in proxybox/ for them; a source distribution has not,
so the packages are listed from the real folders.
"""

import os
import runpy
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_ext import build_ext

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools < 70.1
    from wheel.bdist_wheel import bdist_wheel

HERE = Path(__file__).resolve().parent
PACKAGE_DIR = {"proxybox.controller": "controller", "proxybox.policies": "policies"}
guest_build = runpy.run_path(str(HERE / "proxybox" / "guest" / "build.py"))


def packages_below(folder: str, name: str) -> list[str]:
    """Every package in `folder`, which is the package `name`; links are not followed."""
    found = []
    for here, folders, files in os.walk(HERE / folder):
        folders[:] = [f for f in folders if f.isidentifier() and f != "__pycache__"]
        if any(file.endswith(".py") for file in files):
            inside = Path(here).relative_to(HERE / folder).parts
            found.append(".".join((name, *inside)))
    return sorted(found)


class BuildGuest(build_ext):
    """Compile the guest programs by calling the C compiler directly.

    They are no extension modules: setuptools' own flags would add -DNDEBUG and a runpath.
    """

    def run(self) -> None:
        try:
            guest_build["build"](self.guest_folder())
        except guest_build["BuildError"] as error:
            raise SystemExit(f"\n{error}\n") from None

    def guest_folder(self) -> Path:
        root = HERE if self.inplace else HERE / self.build_lib
        return root / "proxybox" / "guest"

    def get_outputs(self) -> list[str]:
        return [str(self.guest_folder() / program) for program in guest_build["PROGRAMS"]]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        files = [f for program in guest_build["PROGRAMS"] for f in guest_build["sources"](program)]
        return [str(path.relative_to(HERE)) for path in (*files, *guest_build["headers"]())]


class PlatformWheel(bdist_wheel):
    """py3-none-PLATFORM: compiled programs, but no tie to one Python."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


class BinaryDistribution(Distribution):
    """Says that there is something to compile although no extension module is listed."""

    def has_ext_modules(self) -> bool:
        return True


setup(
    distclass=BinaryDistribution,
    cmdclass={"build_ext": BuildGuest, "bdist_wheel": PlatformWheel},
    package_dir=PACKAGE_DIR,
    packages=[
        *packages_below("proxybox", "proxybox"),
        *packages_below("controller", "proxybox.controller"),
        *packages_below("policies", "proxybox.policies"),
    ],
)
