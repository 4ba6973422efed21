"""What pyproject.toml cannot declare: the wheel carries dags/, schemas/ and the recipe as `microrec/share`."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("dags", "schemas")
RECIPE = "microrec.toml"


class BuildWithShare(build_py):
    """Build the packages, and what they read beside themselves in a checkout."""

    def run(self) -> None:
        """Copy the folders; an editable installation reads those of the checkout."""
        super().run()
        if self.editable_mode:
            return
        share = Path(self.build_lib) / "microrec" / "share"
        for folder in FOLDERS:
            ignored = shutil.ignore_patterns("__pycache__", "*.md")
            shutil.copytree(folder, share / folder, ignore=ignored, dirs_exist_ok=True)
        shutil.copy(RECIPE, share)


setup(cmdclass={"build_py": BuildWithShare})
