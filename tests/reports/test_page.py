from __future__ import annotations

import base64
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reports.report import build
from reports.videos import MOST_VIDEOS
from tests.reports.making import manifest, plan, record, run_folder

VOID_TAGS = {"meta", "link", "source", "br", "wbr", "hr", "img", "input"}
MP4 = b"\0\0\0\x18ftypmp42" + bytes(1000)


class Page(HTMLParser):
    """A page's elements; refuses tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def several(folder: Path, tasks: tuple[str, ...] = ("press", "stack"), trials: int = 3) -> Path:
    """Two policies on two suites, with voids, choices and videos."""
    suites = [plan("one", tasks, trials), plan("two", tasks, trials)]
    for p, policy in enumerate(("cogact", "memoryvla_pp")):
        records = []
        for suite in ("one", "two"):
            for task in tasks:
                for trial in range(trials):
                    name = f"videos/{suite}_{trial}.mp4" if task == tasks[0] else ""
                    outcome = "success" if (trial + p) % 2 else "failure"
                    records.append(record(outcome, suite=suite, task=task, trial=trial, steps=30 + trial, video=name))
        path = run_folder(folder / policy, manifest(policy, suites), records)
        (path / "videos").mkdir()
        for each in records:
            if each.video:
                (path / each.video).write_bytes(MP4)
    return folder


def test_the_page_is_well_formed_and_holds_every_part(tmp_path: Path) -> None:
    page = Page(build([several(tmp_path)]).html(tmp_path))
    text = " ".join(page.texts)
    for part in (
        "Results", "Tasks", "Success against step", "Paired comparison", "Coverage", "Episodes", "Where the time went",
        "Protocols and manifests", "Manifest of cogact", "Complete: all 24 planned scenes were scored.",
    ):  # fmt: skip
        assert part in text, part
    assert len(page.all("svg")) == 5  # intervals, tasks of two suites, curves, time
    anchors = {a["href"] for a in page.all("a")}
    assert anchors == {f"#{section['id']}" for section in page.all("section")}


def test_no_id_is_used_twice(tmp_path: Path) -> None:
    page = Page(build([several(tmp_path)]).html(tmp_path))
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert [name for name, count in ids.items() if count > 1] == []
    uses = {str(a.get("xlink:href")).removeprefix("#") for a in page.all("use")}
    assert uses <= set(ids)


def test_nothing_is_fetched_and_no_script_runs(tmp_path: Path) -> None:
    html = build([several(tmp_path)]).html(tmp_path)
    page = Page(html)
    assert page.all("script") == []
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "poster", "data", "action"):
            assert re.match(r"data:|#|$", attributes.get(name) or ""), attributes
    assert set(re.findall(r"url\(([^)]{1,3})", html)) <= {"#" + c[1:] for c in re.findall(r"url\((#..)", html)}
    assert "@import" not in html


def test_light_and_dark_share_one_drawing(tmp_path: Path) -> None:
    html = build([several(tmp_path)]).html(tmp_path)
    assert "prefers-color-scheme: dark" in html
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert re.findall(r"#[0-9a-fA-F]{6}\b", drawings) == []  # every colour is a variable ...
    used = set(re.findall(r"var\((--\w+)\)", html))
    light, dark = (
        set(re.findall(r"(--\w+):", block)) for block in re.findall(r":root \{(.*?)\}", html, flags=re.DOTALL)
    )
    assert used <= light == dark  # ... that both schemes define


def test_series_differ_in_more_than_colour(tmp_path: Path) -> None:
    from reports import plots

    assert len(set(plots.MARKERS)) == len(set(plots.HATCHES)) == len(set(plots.DASHES)) == len(plots.SERIES)


def test_a_task_called_script_is_text(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>&\"'"
    made = manifest(nasty, [plan(nasty, (nasty,))])
    records = [record(suite=nasty, task=nasty, instruction=nasty, worker=nasty, video="videos/<b>.mp4")]
    page = Page(build([run_folder(tmp_path / "run", made, records)]).html(tmp_path))
    assert page.all("script") == []
    assert page.all("b") == [{}]  # ours, around the outcome
    assert nasty in "".join(page.texts)


def test_videos_are_inside_the_page_and_playable(tmp_path: Path) -> None:
    page = Page(build([several(tmp_path)]).html(tmp_path))
    sources = page.all("source")
    assert len(sources) == 12
    assert {source["type"] for source in sources} == {"video/mp4"}
    for source in sources:
        assert base64.b64decode(str(source["src"]).removeprefix("data:video/mp4;base64,")) == MP4
    assert all("controls" in video for video in page.all("video"))


def test_videos_beyond_the_bound_are_linked_relative_to_the_page(tmp_path: Path) -> None:
    several(tmp_path / "runs")
    html = build([tmp_path / "runs"]).html(tmp_path / "out", embed_bytes=2 * len(MP4))
    addresses = [str(source["src"]) for source in Page(html).all("source")]
    linked = [address for address in addresses if not address.startswith("data:")]
    assert len(addresses) - len(linked) == 2
    for address in linked:
        assert (tmp_path / "out" / address).resolve().read_bytes() == MP4
    assert html.count("kept beside it") == len(linked)


def test_every_task_gets_its_first_video_before_any_gets_its_second(tmp_path: Path) -> None:
    records = [
        record(task=task, trial=trial, video=f"{task}{trial}.mp4") for task in ("press", "stack") for trial in range(3)
    ]
    path = run_folder(tmp_path / "run", manifest(suites=[plan(tasks=("press", "stack"), trials=3)]), records)
    for each in records:
        (path / each.video).write_bytes(MP4)
    html = build([path]).html(path, embed_bytes=2 * len(MP4))
    linked = [str(s["src"]) for s in Page(html).all("source") if not str(s["src"]).startswith("data:")]
    assert sorted(linked) == ["press1.mp4", "press2.mp4", "stack1.mp4", "stack2.mp4"]


def test_a_missing_video_is_said_and_one_outside_the_run_is_not_read(tmp_path: Path) -> None:
    records = [record(trial=0, video="gone.mp4"), record(trial=1, video="link.mp4")]
    path = run_folder(tmp_path / "run", manifest(suites=[plan(trials=2)]), records)
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (path / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    html = build([path]).html(tmp_path)
    assert "gone.mp4 is missing" in html
    assert base64.b64encode(b"secret").decode() not in html
    assert Page(html).all("video") == []


def test_too_many_videos_are_counted_and_left_in_their_folders(tmp_path: Path) -> None:
    trials = MOST_VIDEOS + 7
    records = [record(trial=trial, video=f"{trial}.mp4") for trial in range(trials)]
    path = run_folder(tmp_path / "run", manifest(suites=[plan(trials=trials)]), records)
    for each in records:
        (path / each.video).write_bytes(MP4)
    html = build([path]).html(tmp_path)
    assert len(Page(html).all("video")) == MOST_VIDEOS
    assert "7 more videos are in the run folders" in html


def test_a_suite_of_very_many_tasks_is_a_table_without_bars(tmp_path: Path) -> None:
    tasks = tuple(f"task_{i:04d}" for i in range(140))
    records = [record(task=task) for task in tasks]
    page = Page(build([run_folder(tmp_path / "run", manifest(suites=[plan(tasks=tasks)]), records)]).html(tmp_path))
    text = " ".join(page.texts)
    assert "too many for bars" in text
    assert "80 more in manifest.json" in text
    assert all(task in text for task in tasks)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["拿起红色方块", "a" * 300, "$\\frac{1}{$", "x"])
def test_any_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    records = [record(task=name, seconds={"reset": 0.0, "total": 0.0})]
    page = Page(build([run_folder(tmp_path / "run", manifest(suites=[plan(tasks=(name,))]), records)]).html(tmp_path))
    assert name in "".join(page.texts)


def test_the_step_of_success_is_drawn_only_where_it_is_known(tmp_path: Path) -> None:
    runs_on = {"max_steps": 9, "stop_on_success": False}
    suites = [plan("stops"), plan("runs_on", protocol=runs_on)]
    records = [record(suite="stops"), record(suite="runs_on")]
    html = build([run_folder(tmp_path / "run", manifest(suites=suites), records)]).html(tmp_path)
    assert "runs_on is not drawn: its protocol runs on after a success" in html
    assert "stops is not drawn" not in html
