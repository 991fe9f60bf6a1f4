"""The page of ``iarn compare`` in a real browser: Playwright with the system's Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Enlarge, make_image, tiny_net

from iarn_basicsr.inference.compare import compare, page
from iarn_basicsr.inference.picture_file import Picture
from iarn_basicsr.inference.rescaler import Rescaler

sync_api = pytest.importorskip('playwright.sync_api', reason='needs Playwright: pip install playwright')
CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking']
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium: apt-get install chromium')]


@pytest.fixture(scope='module')
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a page with a one-way network, a JPEG row and a scale that the network does not reach."""
    picture = Picture(make_image(220, 300, seed=3))
    results = compare(Rescaler(tiny_net(), 'tiny', device='cpu'), picture, [2, 3], Enlarge(2), jpeg=(75, ))
    path: Path = tmp_path_factory.mktemp('page') / 'page.html'
    page('picture.png', picture, results, str(path))
    return path.as_uri()


@pytest.fixture(scope='module')
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Any]:
    """The page in a window of 1280 x 900; at the end nothing may have gone wrong in its script, or been asked for."""
    shown = browser.new_page(viewport={'width': 1280, 'height': 900})
    problems: list[str] = []
    shown.on('console', lambda message: problems.append(message.text) if message.type == 'error' else None)
    shown.on('pageerror', lambda error: problems.append(str(error)))
    shown.on('request', lambda request: None if request.url.startswith(('file:', 'data:')) else
             problems.append(request.url))
    shown.goto(address)
    yield shown
    shown.close()
    assert not problems


def divider(viewer: Any) -> tuple[float, float]:
    """Where the dividing line is, and where the left picture ends: shares of the stage."""
    return tuple(viewer.evaluate('''viewer => {
        const stage = viewer.querySelector('.stage'), box = stage.getBoundingClientRect();
        const line = viewer.querySelector('.line').getBoundingClientRect();
        const left = [...stage.querySelectorAll('img')].find(image => getComputedStyle(image).clipPath !== 'none');
        const cut = getComputedStyle(left).clipPath.match(/calc\\(100% - ([\\d.]+)%\\)|inset\\(0(?:px)? ([\\d.]+)%/);
        return [(line.left + line.width / 2 - box.left) / box.width, cut[1] ? cut[1] / 100 : 1 - cut[2] / 100];
    }'''))


def visible(viewer: Any) -> list[str]:
    """Alternative texts of the two pictures that are seen, the left one first."""
    return viewer.evaluate('''viewer => [...viewer.querySelectorAll('.stage img')]
        .filter(image => getComputedStyle(image).visibility === 'visible')
        .sort((a, b) => getComputedStyle(b).zIndex - getComputedStyle(a).zIndex).map(image => image.alt)''')


def test_slider_by_mouse(opened: Any) -> None:
    viewer = opened.locator('.viewer').first
    assert divider(viewer) == pytest.approx((0.5, 0.5), abs=0.01)
    viewer.scroll_into_view_if_needed()
    box = viewer.locator('.stage').bounding_box()
    y = box['y'] + box['height'] / 2
    opened.mouse.move(box['x'] + 0.5 * box['width'], y)
    opened.mouse.down()
    for share in (0.4, 0.2):
        opened.mouse.move(box['x'] + share * box['width'], y)
        assert divider(viewer) == pytest.approx((share, share), abs=0.01)
    opened.mouse.move(box['x'] - 50, y)  # beyond the edge
    assert divider(viewer) == pytest.approx((0, 0), abs=0.01)
    opened.mouse.up()
    opened.mouse.move(box['x'] + 0.7 * box['width'], y)
    assert divider(viewer)[0] == pytest.approx(0, abs=0.01), 'the button was let go'
    opened.mouse.click(box['x'] + 0.75 * box['width'], y)
    assert divider(viewer) == pytest.approx((0.75, 0.75), abs=0.01)
    assert divider(opened.locator('.viewer').nth(1))[0] == pytest.approx(0.5, abs=0.01), 'the others stay'


def test_every_choice(opened: Any) -> None:
    """At x3, the last scale, the network has no picture, and is no choice."""
    viewers = opened.locator('.viewer')
    assert [viewers.nth(n).locator('input[type=radio]').count() for n in range(4)] == [5, 5, 3, 3]
    for number, label in enumerate(('x2', 'x2 jpeg 75', 'x3', 'x3 jpeg 75')):
        viewer = viewers.nth(number)
        assert visible(viewer) == [f'original, {label}', f'IARN, {label}']
        for choice in viewer.locator('label').all():
            choice.click()
            left, right = choice.inner_text().strip().split(' and ')
            assert visible(viewer) == [f'{left}, {label}', f'{right}, {label}']
            tags = [viewer.locator(f'.tag.{side}').inner_text() for side in ('left', 'right')]
            assert tags == [left, right]
    first = viewers.first.locator('input[type=radio]')
    first.first.focus()
    first.first.check()
    opened.keyboard.press('ArrowDown')
    assert visible(viewers.first)[0] == 'bicubic, x2', 'by the keyboard too'


@pytest.mark.parametrize('width', [360, 1000])
def test_nothing_overflows(opened: Any, width: int) -> None:
    """Tables and large LR images scroll inside of their own box; the page itself never scrolls sideways."""
    opened.set_viewport_size({'width': width, 'height': 800})
    for details in opened.locator('details').all():
        details.evaluate('details => { details.open = true; }')
    assert opened.evaluate('document.documentElement.scrollWidth') <= width
    outside = opened.evaluate('''() => [...document.querySelectorAll('body *')]
        .filter(e => !e.closest('.scroll') && !e.closest('.stage') && e.getBoundingClientRect().right > innerWidth + 1)
        .map(e => e.outerHTML.slice(0, 80))''')
    assert outside == []
    assert opened.evaluate('[...document.images].every(image => image.complete && image.naturalWidth > 0)')
