"""Whether RevokeBus can be installed beside popular packages, and which versions come with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_SHOWN = "fastapi", "redis", "pyjwt", "cachetools", "pydantic-settings"
BESIDE = (
    "arq",
    "authlib",
    "celery[redis]",
    "dramatiq[redis]",
    "fastapi-users[redis]",
    "limits[redis]",
    "mlflow",
    "prefect",
    "rq",
    "saq[redis]",
    "slowapi",
    "taskiq-redis",
    # What two applications pin.
    "fastapi==0.136.3 pyjwt==2.13.0 redis==8.0.0",
    "fastapi==0.141.1",
)


def resolved(packages: list[str]) -> dict[str, str]:
    """Return the version of each package that is installed with `packages`.

    Raises:
        subprocess.CalledProcessError: They cannot be installed together.
    """
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header"]
    run = subprocess.run(
        [*command, "--no-annotate", "--python-version", "3.12", "-"],
        input="\n".join(packages),
        capture_output=True,
        text=True,
        check=True,
    )
    pairs = (line.split("==") for line in run.stdout.splitlines() if "==" in line)
    return {name.partition("[")[0].strip(): version.split()[0] for name, version in pairs}


def main() -> int:
    """Print a row for each; return how many cannot be installed, or only in an older version."""
    wrong = 0
    for packages in BESIDE:
        first = packages.split()[0]
        name = first.partition("[")[0].partition("==")[0]
        try:
            versions = resolved([str(_ROOT), *packages.split()])
        except subprocess.CalledProcessError as error:
            wrong += 1
            said = f"CANNOT BE INSTALLED: {error.stderr.strip()}"
        else:
            alone = resolved([first])
            is_newest = versions[name] == alone[name]
            wrong += not is_newest
            said = " ".join(f"{each}={versions[each]}" for each in _SHOWN)
            said = f"{name}={versions[name]} {said}{'' if is_newest else ' NOT THE NEWEST'}"
        print(f"{packages}: {said}", flush=True)  # noqa: T201 - its result
    return wrong


if __name__ == "__main__":
    sys.exit(main())
