"""The image without an engine: the Dockerfile's instructions, followed in a folder."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.deploy_files import ROOT, Instruction, build_context, dockerfile, image_environment

_BUILD_TIMEOUT_SECONDS = 400


@dataclass
class Image:
    """What a build left, and how to run in it.

    Attributes:
        root: Stands for the image's ``/``.
        user: The unprivileged user and group, or None where the tests themselves are unprivileged.
    """

    root: Path
    instructions: list[Instruction]
    user: int | None
    folders: tuple[str, ...] = ("/app", "/opt/nexus", "/var/lib/nexus")
    environment: dict[str, str] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """A path or command of the image, on this machine."""
        for folder in self.folders:
            text = text.replace(folder, f"{self.root}{folder}")
        return text

    def variables(self, **more: str) -> dict[str, str]:
        """ENV of the last stage, and nothing of the tests' own environment."""
        environment = {name: self.here(value) for name, value in image_environment().items()}
        environment["PATH"] = environment["PATH"].replace("$PATH", "/usr/bin:/bin")
        return {**environment, "HOME": "/nonexistent", **self.environment, **more}

    def _identity(self) -> dict[str, object]:
        return {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}

    def run(self, *argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command in a container of its own, to its end."""
        return subprocess.run(
            [self.program(argv[0]), *argv[1:]],
            env=self.variables(**variables),
            cwd=f"{self.root}/app",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **self._identity(),
        )

    def start(self, *argv: str, log: Path, **variables: str) -> subprocess.Popen[bytes]:
        """A command in a container of its own, in the background."""
        with log.open("wb") as output:
            return subprocess.Popen(
                [self.program(argv[0]), *argv[1:]],
                env=self.variables(**variables),
                cwd=f"{self.root}/app",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **self._identity(),
            )

    def program(self, name: str) -> str:
        found = shutil.which(name, path=self.variables()["PATH"])
        assert found is not None, f"{name} is not on the image's PATH"
        return found

    def files(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file that is not data."""
        return {
            str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
            for folder in ("app", "opt")
            for path in (self.root / folder).rglob("*")
            if not path.is_dir()
        }


def _python_for_everybody() -> tuple[str, int | None]:
    """A Python that another user may run, and that user; without root there is no other user, and no need of one."""
    if os.geteuid() != 0:
        return sys.executable, None
    for candidate in (sys._base_executable, "/usr/bin/python3"):
        path = Path(candidate).resolve()
        if not path.exists() or not all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents):
            continue
        if (
            subprocess.run([candidate, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode
            == 0
        ):
            return candidate, 10001
    pytest.skip("no Python with venv that an unprivileged user could run")


def _copy(instruction: Instruction, image: Image) -> None:
    *sources, target = instruction.text.split()
    folder = Path(image.here(target))
    for source in sources:
        for name in build_context():
            if str(name) == source:
                kept = folder / name.name if target.endswith("/") else folder
            elif str(name).startswith(f"{source}/"):
                kept = folder / name.relative_to(source)
            else:
                continue
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, kept)


@pytest.fixture(scope="package")
def image() -> Iterator[Image]:
    """The result of the instructions, in their order; the source is nobody's to write when it runs."""
    python, user = _python_for_everybody()
    root = Path(tempfile.mkdtemp(prefix="nexus-image-"))
    root.chmod(0o755)
    image = Image(root, dockerfile(), user)
    # pip's own configuration is this machine's, as a build argument or secret would bring it.
    arguments = dict(os.environ)
    try:
        for instruction in image.instructions:
            if instruction.name == "ARG" and "=" in instruction.text:
                name, _, value = instruction.text.partition("=")
                arguments[name] = value
            elif instruction.name == "COPY" and not instruction.text.startswith("--from"):
                _copy(instruction, image)
            elif instruction.name == "RUN":
                # The one liberty: pip's cache, for packages that this machine has fetched before.
                command = image.here(instruction.text).replace(" --no-cache-dir", "")
                if command.startswith("python "):
                    command = f"{python} {command.removeprefix('python ')}"
                if user is None:
                    command = command.replace("-o 10001 -g 10001 ", "")
                answer = subprocess.run(
                    ["/bin/sh", "-euc", command],
                    cwd=root / "app" if (root / "app").is_dir() else root,
                    env=arguments,
                    capture_output=True,
                    text=True,
                    timeout=_BUILD_TIMEOUT_SECONDS,
                    check=False,
                )
                assert answer.returncode == 0, f"RUN {command}\n{(answer.stdout + answer.stderr)[-3000:]}"
        yield image
    finally:
        shutil.rmtree(root, ignore_errors=True)
