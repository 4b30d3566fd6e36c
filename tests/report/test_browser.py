"""The page in a real browser, Chromium: what a reader sees, with and without a mouse.

Skipped where playwright or Chromium is missing; `.ci/run` installs both.
"""

import csv
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from unlearn_bench.report import write_report
from unlearn_bench.report.site import write_site
from unlearn_bench.results.records import Record, as_cells

# A browser takes two minutes; CI has one.
pytestmark = pytest.mark.thorough

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
WIDTHS = (1280, 390)
FACTS = {
    "pbu": {"access": "forget", "family": "ascent"},
    "gradient_ascent": {"access": "forget", "family": "ascent"},
    "finetune": {"access": "retain", "family": "fine-tuning"},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no Chromium at {CHROMIUM}: apt-get install chromium")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install -e '.[test]'"
    )
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield launched
        launched.close()


def with_classes(runs: list[Any]) -> list[Any]:
    """Add what heat-maps and the appendix show."""
    more = [
        *(Record("class_drop", str(c), 0.02 * c) for c in range(8)),
        *(Record("forget_predicted_as", str(c), 1 / 8) for c in range(8)),
        Record("mia_legacy_entropy_svc", "forget", 0.25),
    ]
    return [replace(run, records=(*run.records, *more)) for run in runs]


@pytest.fixture(scope="module", autouse=True)
def screen_only() -> Iterator[None]:
    """Drawings for print take a third of a report's time, and no page shows them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "matplotlib.backends.backend_pdf.FigureCanvasPdf.print_pdf", lambda *_, **__: None
        )
        yield


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory, write_folder: Any) -> Any:
    """``write(runs)`` gives the page of those runs."""
    return lambda runs, **suite: write_report(
        write_folder(tmp_path_factory.mktemp("page"), runs, **suite)
    )


@pytest.fixture(scope="module")
def rich(write: Any, invented: Any) -> Path:
    """A page with everything on it: two scenarios, three seeds, classes, curves, facts."""
    page: Path = write(with_classes(invented(3, ("class:8", "random:0.1"))), methods=FACTS)
    return page


@pytest.fixture(scope="module")
def with_failures(write: Any, invented: Any, invented_run: Any) -> Path:
    """A page on which a method failed with every seed."""
    failed = [invented_run("scrub", seed, error="MethodError: NaN weights") for seed in (0, 1)]
    page: Path = write([*invented(2), *failed])
    return page


class Tab:
    """One page in the browser, the network cut off, everything it complains about noted."""

    def __init__(self, browser: Any, path: Path, width: int = 1280, theme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, offline=True
        )
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.set_default_timeout(8000)
        self.page.goto(path.as_uri())

    def rows(self) -> list[str]:
        """Methods in the rows that are seen, in order."""
        return self.page.eval_on_selector_all(  # type: ignore[no-any-return]
            "#methods tbody tr",
            "rows => rows.filter(r => r.offsetParent).map(r => r.cells[0].firstChild.parentNode"
            ".childNodes).map(nodes => [...nodes].filter(n => n.nodeType === 3 || n.tagName === "
            "'WBR').map(n => n.textContent).join('').trim())",
        )

    def column(self, name: str) -> list[float]:
        """Sort keys of a column in the rows that are seen, in order."""
        return self.page.evaluate(  # type: ignore[no-any-return]
            """name => {
                const head = [...document.querySelectorAll('#methods thead th')];
                const i = head.findIndex(th => th.textContent.startsWith(name));
                return [...document.querySelectorAll('#methods tbody tr')]
                    .filter(row => row.offsetParent && row.cells[i].dataset.key !== undefined)
                    .map(row => Number(row.cells[i].dataset.key));
            }""",
            name,
        )


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    opened: list[Tab] = []

    def make(path: Path, width: int = 1280, theme: str = "light") -> Tab:
        opened.append(Tab(browser, path, width, theme))
        return opened[-1]

    yield make
    for one in opened:
        one.context.close()


@pytest.fixture(scope="module")
def opened(browser: Any, rich: Path) -> Iterator[Tab]:
    """The rich page on a desk, opened once: a test leaves it as it was."""
    once = Tab(browser, rich)
    yield once
    once.context.close()


def test_the_page_opens_from_disk_without_network_or_complaint(opened: Tab, rich: Path) -> None:
    seen = opened
    assert seen.page.locator("h1").inner_text().startswith("pbu came nearest")
    assert seen.page.locator("figure svg").count() == 15  # seven of each scenario, one ranking
    assert all(
        box["width"] > 200 and box["height"] > 100
        for box in (figure.bounding_box() for figure in seen.page.locator("figure svg").all())
    )
    assert len(seen.rows()) == 16
    assert seen.asked == [rich.as_uri()]
    assert seen.complaints == []


def test_sorting_reorders_the_rows_and_says_so(opened: Tab) -> None:
    seen = opened
    as_given = seen.rows()
    heading = seen.page.locator("#methods thead th", has_text="Distance to retraining")
    assert heading.get_attribute("aria-sort") == "none"
    heading.locator("button").click()
    ascending = seen.column("Distance")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert ascending == sorted(ascending) and len(set(ascending)) > 5
    assert seen.rows() != as_given
    heading.locator("button").click()
    assert seen.column("Distance") == ascending[::-1]
    heading.locator("button").click()
    assert seen.rows() == as_given and seen.complaints == []


def test_names_sort_by_the_alphabet_from_the_keyboard(opened: Tab) -> None:
    seen = opened
    button = seen.page.locator("#methods thead th button").first
    button.focus()
    seen.page.keyboard.press("Enter")
    assert seen.rows() == sorted(seen.rows()) and seen.rows()[0] == "bad_teacher"
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.textContent").startswith("Model, data")
    for _ in range(2):
        button.click()  # as given


def test_what_has_no_verdict_sorts_last_either_way(opened: Tab) -> None:
    seen = opened
    button = seen.page.locator("#methods thead th", has_text="Verdict").locator("button")
    for _ in range(2):
        button.click()
        assert seen.rows()[-2:] == ["retrain"] * 2
    button.click()  # as given


def test_the_file_of_the_table_holds_the_table(opened: Tab) -> None:
    seen = opened
    with seen.page.expect_download() as caught:
        seen.page.get_by_text("This table as CSV").click()
    lines = list(csv.DictReader(Path(caught.value.path()).open()))
    assert [line["Method"] for line in lines] == seen.rows()
    distances = [line["Distance to retraining, points"] for line in lines]
    assert [float(d) for d in distances if d] == pytest.approx(
        [d for d in seen.column("Distance") if d], rel=1e-4
    )


def test_a_figure_without_neighbour_has_its_words_beside_it(
    opened: Tab, tab: Any, rich: Path
) -> None:
    def boxes(seen: Tab) -> tuple[Any, Any]:
        figure = seen.page.locator("figure.beside").first
        drawing, caption = figure.locator(".drawing"), figure.locator("figcaption")
        return drawing.bounding_box(), caption.bounding_box()

    drawing, caption = boxes(opened)
    assert caption["x"] >= drawing["x"] + drawing["width"]
    assert drawing["y"] <= caption["y"] <= drawing["y"] + drawing["height"]
    drawing, caption = boxes(tab(rich, 390))
    assert caption["y"] >= drawing["y"] + drawing["height"]


def test_the_banner_about_failed_runs_leads_to_the_reasons(tab: Any, with_failures: Path) -> None:
    seen = tab(with_failures)
    link = seen.page.locator(".alert a")
    link.click()
    target = seen.page.locator(link.get_attribute("href"))
    assert "scrub, seeds 0, 1: MethodError: NaN weights" in target.inner_text()
    box = target.bounding_box()
    assert 0 <= box["y"] < 900, "in view"


def test_filters_hide_rows_and_count_what_is_left(opened: Tab) -> None:
    seen = opened
    choose = seen.page.get_by_label
    choose("Family", exact=True).select_option("ascent")
    assert seen.rows() == ["pbu", "gradient_ascent"] * 2
    choose("Scenario", exact=True).select_option("random:0.1")
    assert seen.rows() == ["pbu", "gradient_ascent"]
    assert seen.page.locator("#shown").inner_text() == "2 of 16 rows"
    choose("Name", exact=True).fill("gradient")
    assert seen.rows() == ["gradient_ascent"]
    seen.page.get_by_role("button", name="Show all").click()
    seen.page.locator("#shown", has_text="16 of 16").wait_for()
    choose("Access", exact=True).select_option("retain")
    assert seen.rows() == ["finetune"] * 2
    choose("Kind", exact=True).select_option("Reference")
    assert seen.rows() == []
    assert choose("Dataset", exact=True).is_disabled() and choose("Model", exact=True).is_disabled()
    seen.page.get_by_role("button", name="Show all").click()


def test_a_verdict_leads_to_its_row_even_behind_a_filter(opened: Tab) -> None:
    seen = opened
    seen.page.get_by_label("Family", exact=True).select_option("ascent")
    link = seen.page.locator(".verdicts a", has_text="finetune").first
    link.click()
    row = seen.page.locator(link.get_attribute("href"))
    row.wait_for(state="visible")
    assert row.locator("th").inner_text().startswith("finetune")
    seen.page.get_by_role("button", name="Show all").click()


def test_another_method_can_be_compared(opened: Tab) -> None:
    seen = opened
    table = seen.page.locator("#s1-compared")
    before = table.inner_text()
    seen.page.get_by_label("Method", exact=True).first.select_option("finetune")
    after = table.inner_text()
    assert "pbu" in before and "finetune" in after and "pbu" not in after
    assert before.splitlines()[1:] != after.splitlines()[1:]
    seen.page.get_by_label("Method", exact=True).first.select_option("pbu")
    assert table.inner_text() == before


def test_the_theme_follows_the_system_until_it_is_switched(
    opened: Tab, tab: Any, rich: Path
) -> None:
    def paper(seen: Tab) -> Any:
        return seen.page.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = opened, tab(rich, theme="dark")
    is_light, is_dark = paper(light), paper(dark)
    assert is_light != is_dark
    light.page.get_by_role("button", name="Dark theme").click()
    dark.page.get_by_role("button", name="Light theme").click()
    assert (paper(light), paper(dark)) == (is_dark, is_light)
    light.page.get_by_role("button", name="Light theme").click()
    assert paper(light) == is_light


def test_without_script_everything_is_there_and_no_control_lies(browser: Any, rich: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(rich.as_uri())
    assert page.locator("#methods tbody tr").count() == 16
    for control in ("#theme", ".filters", ".chooser select", "#methods button"):
        assert not any(found.is_visible() for found in page.locator(control).all()), control
    context.close()


def test_a_figure_gives_its_data(opened: Tab) -> None:
    seen = opened
    link = seen.page.locator("figure a.download").first
    with seen.page.expect_download() as caught:
        link.click()
    text = Path(caught.value.path()).read_text()
    assert caught.value.suggested_filename.endswith("cost.csv")
    assert text.splitlines()[0].startswith("method,seed,percent_of_retraining_time")
    assert len(text.splitlines()) == 1 + 6 * 3


def test_paper_shows_all_rows_and_no_buttons(opened: Tab) -> None:
    seen = opened
    seen.page.emulate_media(media="print", color_scheme="dark")
    hidden = seen.page.locator(".filters, #theme, .download")
    assert not any(found.is_visible() for found in hidden.all())
    box = "document.querySelector('.tall')"
    assert seen.page.evaluate(f"{box}.clientHeight >= {box}.scrollHeight - 1")
    paper = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 254)", "dark paper wastes ink"
    seen.page.emulate_media(media="screen", color_scheme="light")


# Texts of one drawing that lie upon each other or stick out of it; cells and headings whose
# words do not fit; the page wider than its window.
FAULTS = """() => {
    const faults = [];
    const say = (what, node) => faults.push(`${what}: ${node.textContent.trim().slice(0, 60)}`);
    if (document.documentElement.scrollWidth > innerWidth) faults.push('the page scrolls sideways');
    for (const svg of document.querySelectorAll('figure svg')) {
        const frame = svg.getBoundingClientRect();
        const scale = frame.width / svg.viewBox.baseVal.width;
        const texts = [...svg.querySelectorAll('text')]
            .filter(t => t.textContent.trim()
                && !/rotate\\((?!-?0[ )])/.test(t.getAttribute('transform') || ''));
        const boxes = texts.map(t => t.getBoundingClientRect());
        boxes.forEach((a, i) => {
            const slack = 1.5 * scale;
            if (a.left < frame.left - slack || a.right > frame.right + slack
                || a.top < frame.top - slack || a.bottom > frame.bottom + slack) {
                say('outside its drawing', texts[i]);
            }
            boxes.slice(i + 1).forEach((b, j) => {
                const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                // A line box is taller than its letters: touching by a third is no overlap.
                // Two names closer than this read as one.
                if (wide > -scale && high > 0.35 * Math.min(a.height, b.height)) {
                    say(`overlaps "${texts[i + 1 + j].textContent}"`, texts[i]);
                }
            });
        });
    }
    const words = 'h1,h2,h3,p,dt,dd,li,th,td,label,button,figcaption';
    for (const node of document.querySelectorAll(words)) {
        if (node.clientWidth && node.scrollWidth > node.clientWidth + 1
            && getComputedStyle(node).position !== 'absolute') say('clipped', node);
    }
    const cells = [...document.querySelectorAll('.filters *, .chooser *')];
    for (const node of cells) {
        const box = node.getBoundingClientRect();
        if (box.width && (box.left < 0 || box.right > innerWidth + 1)) say('off the page', node);
    }
    return faults;
}"""


def test_nothing_overlaps_or_is_clipped(opened: Tab, tab: Any, rich: Path) -> None:
    for seen in (opened, tab(rich, 390)):
        assert seen.page.evaluate(FAULTS) == []


@pytest.mark.parametrize(
    ("width", "theme"),
    [(390, "dark"), (1280, "light")],
)
def test_contrast_and_structure_pass_axe(width: int, theme: str, tab: Any, rich: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    seen = tab(rich, width, theme)
    seen.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    found = axe.Axe().run(seen.page)
    assert len(found.response["passes"]) > 20
    assert any(rule["id"] == "color-contrast" for rule in found.response["passes"])
    assert not found.response["violations"], found.generate_report()


@pytest.mark.parametrize(
    "case",
    [
        "failed",
        *(
            pytest.param(case, marks=pytest.mark.heavy)
            for case in ("empty", "one_seed", "one_method", "many")
        ),
    ],
)
def test_reports_of_odd_suites_are_sensible(
    case: str, tab: Any, write: Any, with_failures: Path, invented: Any, invented_run: Any
) -> None:
    runs = {
        "empty": [],
        "one_seed": invented(1),
        "one_method": [r for r in invented(3) if r.method in ("retrain", "original", "pbu")],
        "many": [
            invented_run(
                "retrain",
                seed,
                kind="reference",
                forget_accuracy=0.0,
                retain_accuracy=1.0,
                wall_seconds=9.0,
            )
            for seed in (0, 1)
        ]
        + [
            invented_run(
                f"a_method_of_long_name_{i}",
                seed,
                forget_accuracy=0.01 * i,
                retain_accuracy=1 - 0.004 * i,
                wall_seconds=1.0 + 0.1 * i,
            )
            for i in range(36)
            for seed in (0, 1)
        ],
    }.get(case)
    said = {
        "empty": "No run has finished yet",
        "failed": "Failed: scrub, seeds 0, 1: MethodError: NaN weights",
        "one_seed": "One seed has neither interval nor retrain band",
        "one_method": "fewer than two methods have a distance",
        "many": "No room for the labels of",
    }[case]
    plan = {"plan": ["a", "b"]} if case == "empty" else {}
    page = write(runs, **plan) if runs is not None else with_failures
    for width in WIDTHS:
        seen = tab(page, width)
        assert said in seen.page.locator("body").inner_text()
        assert seen.page.evaluate(FAULTS) == [], width
        assert seen.complaints == []


REPORTS = Path(__file__).parents[2] / "reports"


@pytest.mark.heavy
def test_nothing_overlaps_in_the_report_of_real_runs(tab: Any, tmp_path: Path) -> None:
    for file in ("suite.json", "curves.parquet"):
        shutil.copy(REPORTS / "digits" / file, tmp_path)
    # records.csv is not in git; the Parquet file beside it has the same rows.
    records = pd.read_parquet(REPORTS / "digits" / "records.parquet").astype(object)
    (tmp_path / "records.csv").write_text(as_cells(records).to_csv(index=False))
    page = write_report(tmp_path)
    for width in WIDTHS:
        seen = tab(page, width)
        assert seen.page.evaluate(FAULTS) == [], width
        assert seen.complaints == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, write_folder: Any, invented: Any) -> Path:
    """A site of two folders with the same task, the first with tuned methods beside others."""
    place = tmp_path_factory.mktemp("site")
    tuned = {name: ["tuned (20 trials)", True] for name in ("pbu", "random_label", "bad_teacher")}
    rows = {"digits · resnet18 · class:8": tuned}
    for name, more in (("one", {"rows": rows}), ("two", {})):
        (place / name).mkdir()
        suite = {"name": name, "description": "A trial."}
        runs = invented(3, ("class:8", "random:0.1"))
        write_folder(place / name, runs, suite=suite, methods=FACTS, **more)
        (place / name / "report.html").write_text("<title>its report</title>")
    return write_site([str(place / "one"), str(place / "two")], place / "site").page


def test_the_site_opens_from_disk_and_leads_to_tasks_methods_and_reports(
    site: Path, tab: Any
) -> None:
    seen = tab(site)
    assert seen.page.locator("h1").inner_text().startswith("6 unlearning methods on 2 tasks")
    seen.page.locator("#tasks a").first.click()
    assert seen.page.locator("h1").inner_text() == "digits · resnet18 · class:8"
    seen.page.locator("#methods a", has_text="pbu").first.click()
    assert seen.page.locator("h1").inner_text() == "pbu"
    seen.page.get_by_role("link", name="Overview").click()
    seen.page.get_by_role("link", name="two", exact=True).click()
    assert seen.page.title() == "its report"
    assert all(url.startswith("file:") for url in seen.asked) and seen.complaints == []


def test_a_leaderboard_sorts_within_each_budget_and_filters_by_it(site: Path, tab: Any) -> None:
    seen = tab(site.parent / "tasks" / "digits-resnet18-class-8.html")

    def groups() -> list[list[float]]:
        found: list[list[float]] = seen.page.evaluate(
            """() => [...document.querySelectorAll('#methods tbody')].filter(b => !b.hidden)
                .map(body => [...body.rows].filter(r => r.offsetParent && r.cells.length > 1)
                    .map(row => Number(row.cells[3].dataset.key)))"""
        )
        return found

    heading = seen.page.locator("#methods thead th", has_text="Distance to retraining")
    heading.locator("button").click()
    heading.locator("button").click()
    descending = groups()
    assert [len(group) for group in descending] == [3, 3, 2, 6, 2]
    assert all(group == sorted(group, reverse=True) for group in descending)
    seen.page.get_by_label("Settings", exact=True).select_option("tuned")
    assert [len(group) for group in groups()] == [3]
    assert seen.page.locator("output").inner_text() == "3 of 16 rows"
    seen.page.get_by_label("Access", exact=True).select_option("forget")
    assert seen.page.locator("#methods tbody a:visible").all_inner_texts() == ["pbu"]
    seen.page.get_by_role("button", name="Show all").click()
    seen.page.locator("output", has_text="16 of 16").wait_for()
    seen.page.get_by_label("Results", exact=True).select_option("two")
    assert [len(group) for group in groups()] == [6, 2]
    assert seen.complaints == []


SITE_PAGES = ("index.html", "tasks/digits-resnet18-class-8.html", "methods/pbu.html")


@pytest.mark.parametrize("name", SITE_PAGES)
def test_pages_of_a_site_fit_and_pass_axe(name: str, site: Path, tab: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    for width, theme in ((390, "dark"), (1280, "light")):
        seen = tab(site.parent / name, width, theme)
        assert seen.page.evaluate(FAULTS) == [], (width, theme)
        found = axe.Axe().run(seen.page)
        assert any(rule["id"] == "color-contrast" for rule in found.response["passes"])
        assert not found.response["violations"], found.generate_report()


def test_a_site_without_script_shows_all_and_no_control(browser: Any, site: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site.parent / "tasks" / "digits-resnet18-class-8.html").as_uri())
    assert page.locator("#methods tbody tr:not(.group)").count() == 16
    assert not any(f.is_visible() for f in page.locator("#theme, .filters, th button").all())
    context.close()
