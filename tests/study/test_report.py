from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cerebridge.encoding.results import Result
from cerebridge.encoding.study.archive import read_results
from cerebridge.encoding.study.report_parts import Number, Table, audit_of_models, flat_rows, sentence

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Collects what a report is made of, and checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str]] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.values: dict[str, float] = {}
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(facts)
        if "href" in facts:
            self.links.append(facts["href"])
        if "id" in facts:
            self.anchors.add(facts["id"])
        if "data-key" in facts:
            self.values[facts["data-key"]] = float(facts["data-value"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def html(small_run: Path) -> str:
    return (small_run / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    parsed = Page()
    parsed.feed(html)
    assert parsed.open == []
    return parsed


def test_nothing_comes_from_elsewhere(html, page):
    assert not re.search(
        r"(https?:)?//(?!\*)[a-z]", re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html)
    )
    assert "<script" not in html and "@import" not in html and "url(" not in html
    assert all(link.startswith("#") and link[1:] in page.anchors for link in page.links)


def test_every_picture_can_be_seen_and_is_described(page):
    # the profile, models in two regions, matrices, the confusion
    assert len(page.images) == 5
    for image in page.images:
        head, _, content = image["src"].partition(",")
        assert head == "data:image/png;base64" and len(image["alt"]) > 10
        picture = Image.open(io.BytesIO(base64.b64decode(content))).convert("L")
        assert min(picture.size) > 200
        assert np.asarray(picture).std() > 5, "the picture is empty"


def test_the_headlines_are_those_of_the_results(page, small_run):
    groups, _, _ = read_results(small_run / "results.nc")
    table = Result(groups["encoding/neurons"]).summary("region")
    similarity = groups["similarity/neurons"]["score"].mean("split")
    accuracy = groups["decoding/neurons"]["score"].mean("split")
    expected = {
        **{f"encoding/neurons|best|{name}": rows["score"].max() for name, rows in table.groupby("region")},
        **{
            f"similarity/neurons|best|{region}": float(similarity[:, k].max())
            for k, region in enumerate(similarity["region"].values)
        },
        "decoding/neurons|score|all units": float(accuracy.values.item()),
    }
    assert page.values == pytest.approx(expected, abs=1e-12)


def test_it_says_what_is_needed_to_believe_it(page, small):
    text = " ".join(" ".join(page.words).split())
    for words in (
        "A small study",
        "noise ceiling",
        "Chance is 0",
        "chance 0.333",
        "Plan and cost",
        "activations of tiny on pictures",
        "the training rows of each fold alone",
        "stimulus overlap 0",
        "with exchanged responses",
        "by which penalties were chosen",
        "scikit-learn",
        'reader = "patterns"',
    ):
        assert words in text, words
    assert "nan" not in text.lower().split() and "None" not in text.split()


def test_text_of_the_study_is_escaped(small, tmp_path):
    from cerebridge.encoding.study.format import parse_study
    from cerebridge.encoding.study.runner import Runner

    text = small[: small.index("[[analyses]]")].replace("A small study", "<b>bold</b> & more")
    text += (
        '[[analyses]]\nname = "d"\nkind = "decoding"\nrecordings = ["neurons"]\ntarget = "category"\ncv = 2\n'
    )
    report = Runner(parse_study(text, "small.toml"), tmp_path, say=lambda line: None).run()
    written = report.read_text(encoding="utf-8")
    assert "<b>bold" not in written and "&lt;b&gt;bold&lt;/b&gt; &amp; more" in written


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Number.of(0.12345), "0.123"),
        (Number.of(float("nan")), "–"),
        (Number.p(0.0004), "< 0.001"),
        (Number.p(0.02), "0.020"),
        (Number.percent(0.456), "46 %"),
        (Number.percent(float("nan")), "–"),
    ],
)
def test_numbers_are_written_for_people(number, text):
    assert str(number) == text
    assert number.relation == (text if text.startswith("<") else f"= {text}")


def test_columns_of_numbers_are_known():
    table = Table(["a", "b"], [["x", Number.of(1)], ["y", Number.of(2)]])
    assert not table.numeric(0) and table.numeric(1) and not Table(["a"], []).numeric(0)


def test_facts_become_rows():
    rows = flat_rows(
        {
            "test_rows": [3, 4],
            "training_rows": [9, 9],
            "all": {"a": "x", "b": "x"},
            "each": {"a": 1.23456, "b": []},
        }
    )
    assert rows == [
        ("test rows", "3 to 4"),
        ("training rows", "9"),
        ("all", "all 2 alike: x"),
        ("each", "a: 1.235; b: none"),
    ]
    assert sentence("so it is") == "So it is."


def test_what_an_audit_says_of_models_becomes_a_table():
    audit = {
        "split": "x",
        "shuffle_control": {"net/a": 0.01},
        "selection": {"scoring": "r2", "selection_score": {"net/a": 0.5}, "nested_score": {"net/a": 0.4}},
    }
    rest, (table,) = audit_of_models(audit, {"net/a": "a"})
    assert rest == {"split": "x"}
    assert [str(cell) for cell in table.rows[0]] == ["a", "0.400", "0.500", "0.010"]
    assert audit_of_models({"selection": "nothing"}, {"a": "a"}) == ({"selection": "nothing"}, [])
