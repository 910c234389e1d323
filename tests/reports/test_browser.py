"""Every kind of page in a real browser: nothing logged, nothing fetched, readable light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from reports import comparison, explain, nights, papers, report
from tests.reports.browser import Tab, browser, tab
from tests.reports.making import manifest, plan, record, run_folder
from tests.reports.test_nights import ALPHA, MATRIX, Nights

pytestmark = pytest.mark.skipif(browser() is None, reason="no browser: install chromium, or name one in MEMVLA_BROWSER")

PAGES = ("report", "comparison", "table", "explanation", "index")
CONTRAST = """(() => {
  const light = c => c.match(/[\\d.]+/g).slice(0, 3).map(Number).map(v => (v /= 255) <= 0.03928 ? v / 12.92
    : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$/.test(c) && c !== 'transparent') return c } return 'rgb(255, 255, 255)' };
  return [...document.querySelectorAll('p, td, th, li, h1, h2, h3, a, summary, figcaption, span, text')]
    .filter(e => e.textContent.trim() && !e.closest('tr.again td:first-child')).map(e => {
      const s = getComputedStyle(e), ink = light(e.tagName === 'text' ? s.fill : s.color), under = light(paper(e));
      return [(Math.max(ink, under) + 0.05) / (Math.min(ink, under) + 0.05), e.textContent.trim().slice(0, 40)] })
    .filter(([contrast]) => contrast < 4.5) })()"""
"""Texts whose contrast with what is under them is below what WCAG 2.1 AA asks for."""


def film(path: Path) -> None:
    """A real video of a moving square."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for k in range(8):
            frame = np.zeros((64, 64, 3), dtype=np.uint8)
            frame[20:40, 4 * k : 4 * k + 20] = 255
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())


def runs(folder: Path) -> list[Path]:
    """Two policies on a suite sorted by dimensions, one of chains and one of long names; voids, flips, films."""
    tags = {f"variant_{i:02d}": {"dimension": ("camera", "noise")[i % 2]} for i in range(12)}
    long = "pick_up_the_black_bowl_between_the_plate_and_the_ramekin_and_place_it_on_the_plate"
    plans = [plan("libero_plus", tags, 1, tags=tags), plan("calvin_abc_d", ("chain",), 6), plan("lab", (long, "s"), 3)]
    found = []
    for p, policy in enumerate(("cogact", "memoryvla_pp")):
        records = [
            record(
                "void" if (k, p) == (3, 1) else "success" if (k + p) % 3 else "failure", suite=made.name, task=task,
                trial=trial, steps=20 + k, video=f"videos/{k}.mp4" if made.name == "lab" else "",
                metrics={"chain_length": float(k % 6)} if made.name == "calvin_abc_d" else {},
            )
            for made in plans
            for k, (task, trial) in enumerate((t, i) for t in made.tasks for i in range(made.trials))
        ]  # fmt: skip
        path = run_folder(folder / policy, manifest(policy, plans), records)
        for each in records:
            if each.video:
                film(path / each.video)
        found.append(path)
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a page of every kind."""
    folder = tmp_path_factory.mktemp("pages")
    two = runs(folder / "runs")
    report.build(two).write(folder)
    comparison.build(two).write(folder)
    papers.build("memoryvla_pp/calvin", two).write(folder)
    explain.build(*two, "lab/s/0").write(folder)
    history = Nights(folder / "nights")
    for solved in ("x" * 40, "x" * 38 + "..", "x" * 20 + "." * 20):
        history.add(solved)
    order = history.history.nights()
    nights.write(folder, order[-1], order, history.judged([*MATRIX, ("absent", "lab")]), ALPHA)
    return folder


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with tab(tmp_path_factory.mktemp("profile")) as made:
        yield made


def opened(chrome: Tab, page: Path, width: int = 1280, scheme: str = "light") -> Tab:
    chrome.complaints.clear()
    chrome.fetched.clear()
    chrome.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    chrome.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    chrome.open(page)
    return chrome


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opened_from_the_file_system_logs_nothing_and_fetches_itself_alone(
    name: str, pages: Path, chrome: Tab
) -> None:
    page = pages / f"{name}.html"
    opened(chrome, page)
    assert chrome.ask("document.querySelectorAll('table, svg').length") > 0
    assert chrome.complaints == []
    assert [address for address in chrome.fetched if not address.startswith("data:")] == [page.as_uri()]


def test_a_page_that_logs_fetches_or_cannot_be_read_is_seen(tmp_path: Path, chrome: Tab) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<script>console.error('no')</script><img src='gone.png'><p style='color: #aaa'>pale</p><p>ink</p>")
    opened(chrome, page)
    assert [text for _, text in chrome.ask(CONTRAST)] == ["pale"]
    assert any("no" in text for text in chrome.complaints)
    assert any(address.endswith("gone.png") for address in chrome.fetched)


@pytest.mark.parametrize("name", ["report", "comparison", "explanation"])
def test_every_video_of_a_page_plays(name: str, pages: Path, chrome: Tab) -> None:
    opened(chrome, pages / f"{name}.html")
    assert chrome.ask("document.querySelectorAll('video').length") >= 2
    assert chrome.ask("[...document.querySelectorAll('video')].filter(v => v.error || v.videoWidth !== 64).length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_every_text_can_be_read_in_light_and_dark(name: str, scheme: str, pages: Path, chrome: Tab) -> None:
    opened(chrome, pages / f"{name}.html", scheme=scheme)
    paper = chrome.ask("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]
    assert chrome.ask(CONTRAST) == []


@pytest.mark.parametrize("width", [390, 820, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_wide_as_its_window(name: str, width: int, pages: Path, chrome: Tab) -> None:
    opened(chrome, pages / f"{name}.html", width)
    assert chrome.ask("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", ["report", "comparison", "table", "index"])
def test_no_text_of_a_drawing_is_cut_off(name: str, pages: Path, chrome: Tab) -> None:
    opened(chrome, pages / f"{name}.html")
    cut = chrome.ask(
        "[...document.querySelectorAll('svg.plot')].flatMap(s => { const b = s.getBoundingClientRect(); "
        "return [...s.querySelectorAll('text')].filter(t => { const r = t.getBoundingClientRect(); "
        "return r.left < b.left - 1 || r.right > b.right + 1 || r.top < b.top - 1 || r.bottom > b.bottom + 1 })"
        ".map(t => t.textContent) })"
    )
    assert cut == []


def test_a_flipped_scene_in_the_list_leads_to_its_two_videos(pages: Path, chrome: Tab) -> None:
    opened(chrome, pages / "comparison.html")
    found = chrome.ask(
        "[...document.querySelectorAll('table a')].map(a => document.querySelector(a.hash)"
        ".querySelectorAll('video').length)"
    )
    assert found
    assert set(found) == {2}
