"""What Vulkan says of itself, on this machine and on one without a driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs import vulkan


def test_a_device_says_what_it_lacks() -> None:
    new = vulkan.Device("llvmpipe", "software", "Mesa 25.0.7", partially_bound=True)
    assert new.said == "llvmpipe, Mesa 25.0.7 (software)"
    old = vulkan.Device("llvmpipe", "software", "Mesa 22.3.6", partially_bound=False)
    assert "TOO OLD for SAPIEN" in old.said


def test_a_driver_that_is_not_there_is_said_and_ends_no_process(tmp_path: Path) -> None:
    nowhere = dict.fromkeys(vulkan.VARIABLES, str(tmp_path / "nowhere.json"))
    with pytest.raises(RuntimeError, match=r"finds no driver|libvulkan\.so\.1"):
        vulkan.ask(nowhere)


def test_the_devices_of_this_machine_are_named_with_their_drivers() -> None:
    try:
        vulkan.here()
    except OSError:
        pytest.skip("no Vulkan loader on this machine")
    except RuntimeError:
        pytest.skip("no Vulkan driver on this machine")
    found = vulkan.ask()
    assert all(device.name and device.driver and device.kind in vulkan.KINDS for device in found)
