"""What axe-core finds wrong with the page that a browser shows: names, roles, contrast, focus.

browser.open(address)
assert faults(browser) == []
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from browsing import Browser

PACKAGE = "axe_playwright_python"  # only its copy of axe-core is used
SECONDS = 180  # that axe may take
RUN = """
const [within, impacts, done] = arguments;
const one = ({ id, impact, help }) => ({ target, failureSummary }) =>
  `${impact}: ${id} (${help}): ${target.join(" ")}: ${failureSummary.replace(/\\s+/g, " ")}`;
axe.run(within, { resultTypes: ["violations"] }).then(
  ({ violations }) =>
    done(
      violations
        .filter(({ impact }) => impacts.includes(impact))
        .flatMap((violation) => violation.nodes.map(one(violation))),
    ),
  (error) => done([`axe failed: ${error}`]),
);
"""


def faults(
    browser: Browser, within: str = "html", impacts: tuple[str, ...] = ("serious", "critical")
) -> list[str]:
    """A line for every element that axe finds fault with: impact, rule, its address, what to do.

    within   a selector: only what lies in the elements that it finds
    impacts  of "minor", "moderate", "serious", "critical"
    """
    browser.driver.set_script_timeout(SECONDS)
    if not browser.run("return 'axe' in globalThis"):
        browser.run(_axe())
    return browser.driver.execute_async_script(RUN, within, impacts)


def missing() -> str | None:
    """Why axe cannot be run here; None if it can."""
    if find_spec(PACKAGE) is None:
        return "axe-playwright-python is not installed (pip install -r requirements.txt)"
    return None


@cache
def _axe() -> str:
    package = find_spec(PACKAGE)
    return (Path(package.origin).parent / "axe.min.js").read_text(encoding="utf8")
