"""The Vulkan driver that SAPIEN draws with: found, or brought into the runtime's own folder by `memvla setup`.

Without a GPU that is lavapipe, Mesa's software Vulkan. SAPIEN 3 needs `descriptorBindingPartiallyBound` of it, which
Mesa has since version 23; Debian 12 ships 22.3, so there the driver of its backports is unpacked into the runtime's
folder and named by the variables Vulkan's loader reads. Nothing of the system is changed. Standard library only: this
runs in the main environment as well as in the simulator's own.

On lavapipe the first picture of every process takes 8 to 49 s, whatever is drawn: SAPIEN fills one look-up table of its
shading model (1,024 samples an entry) in a compute shader. It is paid once per worker, not per episode, and shows as a
slow first policy call; a GPU does it in no time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

VARIABLES = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
"""What names the driver to Vulkan's loader, in its newer and its older versions."""
PACKAGE = "mesa-vulkan-drivers"
DRAWS = "import sapien.render as r; print(r.get_device_summary())"
"""Statements that fail where SAPIEN finds no device to draw with."""
Say = Callable[[str], None]


def manifest_in(folder: Path) -> Path:
    """The file that names the driver kept in a runtime's folder (it need not exist)."""
    return folder / "vulkan" / "lavapipe.json"


def use_driver() -> str:
    """Name the runtime's own driver to Vulkan, before SAPIEN is imported; a driver the user named wins.

    Returns the file that names the driver, `""` where the system's own is used.
    """
    chosen = next((os.environ[name] for name in VARIABLES if os.environ.get(name)), "")
    own = manifest_in(Path(sys.prefix))
    if not chosen and own.is_file():
        chosen = str(own)
    for name in VARIABLES if chosen else ():
        os.environ[name] = chosen
    return chosen


def prepare(folder: Path, say: Say) -> None:
    """See to it that SAPIEN 3 in the environment `folder` can draw. Raises RuntimeError naming the cure."""
    bring_driver(folder, say, DRAWS)


def bring_driver(folder: Path, say: Say, draws: str) -> None:
    """See to it that the statements `draws` succeed in the environment `folder`. Raises RuntimeError with the cure."""
    python = folder / "bin" / "python"
    if not complaint(python, {}, draws):
        say("  the system's Vulkan driver will do")
        return
    say("  SAPIEN cannot draw with the system's Vulkan driver; bringing Mesa's software driver from Debian's backports")
    driver = _unpack_backport(folder / "vulkan")
    manifest = manifest_in(folder)
    icd = {"library_path": str(driver), "api_version": "1.4.305"}
    manifest.write_text(json.dumps({"file_format_version": "1.0.0", "ICD": icd}, indent=1))
    said = complaint(python, dict.fromkeys(VARIABLES, str(manifest)), draws)
    if said:
        raise RuntimeError(
            f"SAPIEN cannot draw with {driver} either ({said}); the driver links other libraries: "
            f"apt-get install {PACKAGE} brings them; or name a working driver with {VARIABLES[1]}=FILE.json"
        )


def complaint(python: Path, variables: dict[str, str], draws: str) -> str:
    """The last line of what SAPIEN says when it cannot draw, `""` when it can."""
    done = subprocess.run(
        [str(python), "-c", draws], env={**os.environ, **variables}, capture_output=True, text=True, timeout=300
    )
    return (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else ""


def _unpack_backport(target: Path) -> Path:
    """Debian's newer driver, unpacked under `target`; its library. Uses a private package index of apt."""
    entry = _debian_entry()
    if not shutil.which("apt-get") or not shutil.which("dpkg") or entry is None:
        raise RuntimeError(
            "no Vulkan driver that SAPIEN can draw with, and this is no Debian that could bring one: install a GPU's "
            f"driver, or Mesa 23 or later with its software driver (package {PACKAGE}), then repeat memvla setup"
        )
    release, uri, signed = entry
    option = f" [signed-by={signed}]" if signed else ""
    with tempfile.TemporaryDirectory() as name:
        private = Path(name)
        os.chmod(private, 0o755)  # apt reads its index as a user of its own
        for part in ("lists/partial", "cache/archives/partial"):
            (private / part).mkdir(parents=True)
        lines = [f"deb{option} {uri} {suite} main\n" for suite in (release, f"{release}-backports")]
        (private / "sources.list").write_text("".join(lines))
        apt = ["apt-get", "-q", *(w for o in _private_options(private) for w in ("-o", o))]
        _do([*apt, "update"], private)
        _do([*apt, "download", "-t", f"{release}-backports", PACKAGE], private)
        package = next(private.glob(f"{PACKAGE}_*.deb"))
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        _do(["dpkg", "-x", str(package), str(target)], private)
    found = list(target.rglob("libvulkan_lvp.so"))
    if not found:
        raise RuntimeError(f"Debian's package {package.name} holds no libvulkan_lvp.so")
    return found[0].resolve()


def _private_options(private: Path) -> list[str]:
    return [
        f"Dir::Etc::sourcelist={private / 'sources.list'}",
        "Dir::Etc::sourceparts=-",
        f"Dir::State::lists={private / 'lists'}",
        f"Dir::Cache={private / 'cache'}",
    ]


def _debian_entry(etc: Path = Path("/etc")) -> tuple[str, str, str] | None:
    """(release, mirror, key file) of the Debian entry this machine installs from, None where it is not Debian."""
    words = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', _text(etc / "os-release"), re.MULTILINE))
    release = words.get("VERSION_CODENAME", "")
    if words.get("ID") != "debian" or not release:
        return None
    folder = etc / "apt"
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    for text in map(_text, files):
        for stanza in re.split(r"\n\s*\n", text):
            fields = {k.lower(): v for k, v in re.findall(r"^([A-Za-z-]+):[ \t]*(.+)$", stanza, re.MULTILINE)}
            if release in fields.get("suites", "").split() and "main" in fields.get("components", "").split():
                return release, fields["uris"].split()[0], fields.get("signed-by", "")
        for options, uri in re.findall(rf"^deb\s+(\[[^\]]*\]\s+)?(\S+)\s+{release}\s+.*\bmain\b", text, re.MULTILINE):
            signed = re.search(r"signed-by=([^\s\]]+)", options)
            return release, uri, signed.group(1) if signed else ""
    return None


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def _do(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise RuntimeError(f"{command[0]} could not bring {PACKAGE} of Debian's backports: {last}")
