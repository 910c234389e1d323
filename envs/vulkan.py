"""Which Vulkan driver this machine draws with, asked of Vulkan itself. Standard library only.

    python -m envs.vulkan        prints one line of JSON for each device

SAPIEN needs the feature `descriptorBindingPartiallyBound`, which Mesa's software driver has since version 23; Debian 12
ships 22.3. A driver is named by its manifest (`VK_DRIVER_FILES`, formerly `VK_ICD_FILENAMES`), else Vulkan's loader
takes what the system has.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass

LOADER = "libvulkan.so.1"
VARIABLES = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
"""What names the driver's manifest to the loader, in its newer and its older versions."""
CURE = (
    "SAPIEN needs a GPU's driver, or Mesa 23 or later: on Debian 12 the packages libvulkan1 and, of "
    "bookworm-backports, mesa-vulkan-drivers; memvla setup {suite} brings the latter into its own folder"
)
SLOW = (
    "software: the first picture of every process takes 8 to 49 s (SAPIEN fills a table of its shading model in one "
    "compute shader); once per worker, not per episode; memvla setup {suite} --fast-cpu-first-frame makes it quick"
)
APPLICATION_INFO, INSTANCE_CREATE_INFO = 0, 1
FEATURES_2, PROPERTIES_2 = 1000059000, 1000059001
DESCRIPTOR_INDEXING_FEATURES, DRIVER_PROPERTIES = 1000161001, 1000196000
VULKAN_1_2 = (1 << 22) | (2 << 12)
KINDS = ("other", "integrated GPU", "GPU", "virtual GPU", "software")
"""VkPhysicalDeviceType in words."""


@dataclass(frozen=True)
class Device:
    """One device of a driver. kind: one of KINDS; driver: its name and version in the maker's words (`llvmpipe`, `Mesa
    25.0.7`); partially_bound: whether it has the feature that SAPIEN needs."""

    name: str
    kind: str
    driver: str
    partially_bound: bool

    @property
    def said(self) -> str:
        """In words, with what is wrong with it."""
        lacks = "" if self.partially_bound else ": TOO OLD for SAPIEN (lacks descriptorBindingPartiallyBound)"
        return f"{self.name}, {self.driver} ({self.kind}){lacks}"


class _Chained(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_uint32), ("next", ctypes.c_void_p), ("body", ctypes.c_uint8 * 2048))
    """Any of Vulkan's extensible structures: its type, the next one, and room for what the driver fills in."""


class _Application(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("version", ctypes.c_uint32),
        ("engine", ctypes.c_char_p),
        ("engine_version", ctypes.c_uint32),
        ("api", ctypes.c_uint32),
    )


class _Creation(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.POINTER(_Application)),
        ("layer_count", ctypes.c_uint32),
        ("layers", ctypes.c_void_p),
        ("extension_count", ctypes.c_uint32),
        ("extensions", ctypes.c_void_p),
    )


def here() -> list[Device]:
    """The devices in this process. Raises OSError without Vulkan's loader, RuntimeError where it finds no driver."""
    vulkan = ctypes.CDLL(LOADER)
    application = _Application(APPLICATION_INFO, None, b"memvla", 1, b"", 0, VULKAN_1_2)
    wanted = _Creation(INSTANCE_CREATE_INFO, None, 0, ctypes.pointer(application), 0, None, 0, None)
    instance = ctypes.c_void_p()
    failed = vulkan.vkCreateInstance(ctypes.byref(wanted), None, ctypes.byref(instance))
    if failed:
        raise RuntimeError(f"Vulkan's loader finds no driver (vkCreateInstance: {failed})")
    try:
        count = ctypes.c_uint32()
        vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
        handles = (ctypes.c_void_p * count.value)()
        vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), handles)
        return [_device(vulkan, ctypes.c_void_p(handle)) for handle in handles]
    finally:
        vulkan.vkDestroyInstance(instance, None)


def _device(vulkan: ctypes.CDLL, handle: ctypes.c_void_p) -> Device:
    driver = _Chained(DRIVER_PROPERTIES)
    told = _Chained(PROPERTIES_2, ctypes.addressof(driver))
    vulkan.vkGetPhysicalDeviceProperties2(handle, ctypes.byref(told))
    indexing = _Chained(DESCRIPTOR_INDEXING_FEATURES)
    features = _Chained(FEATURES_2, ctypes.addressof(indexing))
    vulkan.vkGetPhysicalDeviceFeatures2(handle, ctypes.byref(features))
    body, about = bytes(told.body), bytes(driver.body)
    kind = int.from_bytes(body[16:20], "little")  # after api, driver, vendor and device numbers
    return Device(
        name=_text(body[20:276]),
        kind=KINDS[kind] if kind < len(KINDS) else KINDS[0],
        driver=f"{_text(about[4:260])} {_text(about[260:516])}".strip(),  # after the driver's number
        partially_bound=bool(int.from_bytes(bytes(indexing.body)[4 * 17 : 4 * 18], "little")),  # the 18th of 20 flags
    )


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode(errors="replace")


def ask(variables: Mapping[str, str] | None = None) -> list[Device]:
    """The devices that a process with these environment variables would find, asked in one of its own: a broken driver
    may end it. Raises RuntimeError saying what is wrong."""
    command = [sys.executable, __file__]
    surroundings = {**os.environ, **(variables or {})}
    try:
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError("Vulkan's loader does not answer within 60 s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"the process asking it ended with code {done.returncode}"]
        raise RuntimeError(lines[-1].removeprefix("RuntimeError: ").removeprefix("OSError: "))
    return [Device(**json.loads(line)) for line in done.stdout.splitlines()]


if __name__ == "__main__":
    for found in here():
        print(json.dumps(asdict(found)))
