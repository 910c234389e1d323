"""The WidowX that ManiSkill 3 loads, also where only the original's description of it is at hand.

The two differ in three things, and the original's alone would leave ManiSkill 3 with a gripper that cannot close: its
fingers collide with the bar they slide on (the original switches that off in code, ManiSkill 3 by a .srdf file beside
the .urdf), one finger is tied to the other by a mimic joint, and the propeller inside the gripper has a body.
"""

from __future__ import annotations

import os
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

APART = (
    ("base_link", "upper_arm_link"),
    ("gripper_link", "left_finger_link"),
    ("gripper_link", "right_finger_link"),
    ("gripper_bar_link", "gripper_link"),
    ("gripper_bar_link", "left_finger_link"),
    ("gripper_bar_link", "right_finger_link"),
    ("left_finger_link", "right_finger_link"),
)
"""Links between which there are no collisions (ManiSkill-WidowX250S 0.2.0)."""
INSIDE = "gripper_prop_link"
"""The link without a body of its own (the same)."""


def description(urdf: Path) -> Path:
    """The .urdf to load: this one where a .srdf lies beside it, else one put right, in a folder of this process."""
    if urdf.with_suffix(".srdf").is_file():
        return urdf
    folder = Path(tempfile.mkdtemp(prefix="memvla-widowx-"))
    for part in urdf.parent.iterdir():
        if part != urdf:
            os.symlink(part, folder / part.name)
    tree = ET.parse(urdf)
    for joint in tree.getroot().iter("joint"):
        for tie in joint.findall("mimic"):
            joint.remove(tie)
    for link in tree.getroot().iter("link"):
        for body in link.findall("collision") if link.get("name") == INSIDE else ():
            link.remove(body)
    tree.write(folder / urdf.name)
    pairs = ET.Element("robot", name="wx250s")
    for one, other in APART:
        ET.SubElement(pairs, "disable_collisions", link1=one, link2=other, reason="Default")
    ET.ElementTree(pairs).write((folder / urdf.name).with_suffix(".srdf"))
    return folder / urdf.name
