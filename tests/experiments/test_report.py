"""The report: one page that needs nothing else, with everything in it."""

import re
import shlex
from html.parser import HTMLParser

import pytest
import typer
from fake_sweep import Fake, cost, make_sweep
from matplotlib.figure import Figure
from small_run import small_config
from typer.testing import CliRunner

from experiments import RunError, cli_results
from experiments.reporting import Markup, inline, report, table, tag
from experiments.sweeps.sweep import read_sweep

VOID = {"meta", "br", "hr"}


class Page(HTMLParser):
    """Reads a page, and refuses what is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.attributes += attributes
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.tags.append(name)
        self.attributes += attributes

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.text.append(data)

    def all(self, name):
        return [value for key, value in self.attributes if key == name]


def result(config):
    dim, seed = config.model.mixer.transition.dim, config.seed
    if (dim, seed) == (2, 1):
        return Fake(status="diverged", error="<b>step 3</b>: loss nan & more", records=())
    if (dim, seed) == (2, 2):
        return Fake(begun=False)
    right = 40 * dim
    return Fake({4: (95, 99), 8: (right, 90)}, "solved", cost=cost(1000 * dim, 64, 2e3 * dim))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "jt & co"
    return make_sweep(folder, "transition.dim=1,2 seed=0..2", result)


@pytest.fixture(scope="module")
def text(folder):
    path = report(folder)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_page_is_whole(text, page):
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert [name for name in page.tags if name in ("h1", "main", "title", "style")] == [
        "title",
        "style",
        "main",
        "h1",
    ]
    identifiers = page.all("id")
    assert len(identifiers) == len(set(identifiers)) > 20
    assert ("name", "viewport") in page.attributes
    assert page.tags.count("svg") == page.tags.count("figure") == 8


def test_the_page_asks_for_nothing(text, page):
    assert not {"script", "link", "img", "iframe", "object", "a"} & set(page.tags)
    links = page.all("href") + page.all("xlink:href") + page.all("src")
    assert links
    assert all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= set(page.all("id"))
    assert not re.search(r"url\((?!#)|@import", text)
    used = set(re.findall(r"url\(#([^)]+)\)", text))
    assert used <= set(page.all("id"))


def test_everything_is_escaped(text, page):
    assert "<b>" not in text
    assert "<b>step 3</b>: loss nan & more" in page.text
    assert "jt & co" in page.text
    assert "jt & co: sweep report" in page.text


def test_members_and_their_status_are_listed(page):
    words = page.text
    for dim in (1, 2):
        for seed in (0, 1, 2):
            assert f"JT={dim},seed={seed}" in words
    assert any("6 members (4 solved, 1 diverged, 1 unfinished)" in word for word in words)
    assert words.count("solved") == 4
    assert words.count("diverged") == 1


def test_numbers_are_those_of_the_summary(page):
    row = page.text[page.text.index("0.800 ± 0.000") - 4 :][:6]
    # JT = 2 at length 8: one of three was evaluated, one diverged.
    assert row == ["2", "8", "1/3", "0.800", "0.800 ± 0.000", "0.800"]
    assert "0/2 (0.00-0.66)" in page.text
    assert "2,000 (+100%)" in page.text


def test_how_to_repeat_it(folder, text, page, tmp_path):
    commands = next(word for word in page.text if "plstm-seq sweep" in word).splitlines()
    assert commands[0] == "pip install jax==0.10.2"
    assert commands[1] == "plstm-seq sweep --config sweep.yaml --name 'jt & co'"
    assert shlex.split(commands[1])[-1] == "jt & co"
    file = next(word for word in page.text if word.startswith("base:"))
    (tmp_path / "sweep.yaml").write_text(file)
    assert read_sweep(tmp_path / "sweep.yaml") == read_sweep(folder / "sweep.yaml")


def test_environment_and_config(page):
    for word in ("python", "3.11.2", "training.optimizer.learning_rate", "0.003"):
        assert word in page.text
    values = dict(zip(page.text, page.text[1:], strict=False))
    assert values["model.mixer.transition.dim"] == "1, 2"
    assert values["seed"] == "0, 1, 2"


def test_the_same_sweep_makes_the_same_page(folder, text, tmp_path):
    again = report(folder, tmp_path / "new" / "page.html")
    assert again.read_text(encoding="utf-8") == text


def test_a_sweep_that_has_not_begun(tmp_path):
    folder = make_sweep(tmp_path / "new", "seed=0..1", lambda _: Fake(begun=False))
    page = Page(report(folder).read_text(encoding="utf-8"))
    assert any("No member has been evaluated yet" in word for word in page.text)
    assert page.text.count("unfinished") == 2
    assert "svg" not in page.tags


def test_several_tasks_have_tables_and_figures_of_their_own(tmp_path):
    def one_task(config):
        parity = config.task.name == "parity"
        return Fake({8: (90, 95)} if parity else None, records=())

    base = small_config("parity")
    words = "task.name=parity,cycle_navigation seed=0..1"
    folder = make_sweep(tmp_path / "tasks", words, one_task, base=base)
    page = Page(report(folder).read_text(encoding="utf-8"))
    assert [word for word in page.text if word in ("parity", "cycle navigation")][:2] == [
        "parity",
        "cycle navigation",
    ]
    assert "Not evaluated yet." in page.text
    assert page.tags.count("svg") == 2


def test_html_is_made_of_escaped_text():
    made = tag("p", "1 < 2", [tag("b", "&"), "x"], class_="a", aria_label='"')
    assert made == '<p class="a" aria-label="&quot;">1 &lt; 2<b>&amp;</b>x</p>'
    assert isinstance(made, Markup)
    assert Page(table(["a", "b"], [["<", tag("b", "1")]])).text == ["a", "b", "<", "1"]


def test_figures_stand_beside_each_other():
    texts = []
    for name in ("one", "two"):
        figure = Figure()
        figure.subplots().plot([1, 2], label="<x>")
        texts.append(inline(figure, name, "a & b"))
    pages = [Page(text) for text in texts]
    assert not set(pages[0].all("id")) & set(pages[1].all("id"))
    assert pages[0].all("aria-label") == ["a & b"]
    assert "viewbox" in dict(pages[0].attributes)
    assert "<style" not in texts[0]


def test_report_command(folder, tmp_path, monkeypatch):
    app = typer.Typer()
    app.command()(cli_results.results)
    app.command()(cli_results.compare)
    app.command()(cli_results.report)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["report", str(folder), "--output", "page.html"])
    assert result.exit_code == 0, result.stderr
    assert "wrote page.html" in result.stdout
    with pytest.raises(RunError, match="no sweep at 'none'"):
        report("none")
