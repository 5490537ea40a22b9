"""The package that is uploaded: what is in it, and that it works where the checkout is not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def test_the_wheel_has_all_of_the_package_and_nothing_else(built: Path) -> None:
    """The page would have no script, or the tests would be installed into site-packages."""
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "revokebus"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert set(tracked) <= names
    assert {name.split("/")[0] for name in names - set(tracked)} <= {
        "revokebus",
        next(name.split("/")[0] for name in names if ".dist-info" in name),
    }
    assert "revokebus/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_can_be_built_from(built: Path) -> None:
    """A distribution could not package it."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"} <= names
    assert "tests/package_smoke.py" in names


def test_what_is_installed_works_without_the_checkout(built: Path, tmp_path: Path) -> None:
    """The first import of whoever installs it would fail."""
    (wheel,) = built.glob("*.whl")
    target = tmp_path / "installed"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run([sys.executable, *install], check=True, capture_output=True)
    smoke = (ROOT / "tests" / "package_smoke.py").read_text()
    (tmp_path / "smoke.py").write_text(smoke)
    environment = {**os.environ, "PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "smoke.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(target) in done.stdout


def test_version_and_changelog_agree() -> None:
    """Whoever upgrades could not tell what is new in what he has."""
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version[1])
    assert f"\n## {version[1]}\n" in (ROOT / "CHANGELOG.md").read_text()
