import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from privet.errors import DataError, OptionError
from privet.report import page, render_html

VOID = {"meta", "br", "hr", "img", "input", "link", "source", "wbr"}


class Walk(HTMLParser):
    """Checks that tags balance, and notes what a page could load and what it calls things."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.targets, self.text = [], [], [], [], []
        self.svgs = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.targets += [values[name] for name in ("src", "href") if name in values]
        assert not [name for name in values if name.startswith("on")]
        if tag == "svg":
            self.svgs.append(values)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def documents(run, build, demo):
    return {"run": run, "protect": build, "demo": demo}


@pytest.fixture(params=["run", "protect", "demo"])
def kind(request):
    return request.param


def test_a_page_is_well_formed_and_self_contained(documents, kind):
    html = render_html(documents[kind], kind)
    walk = Walk(html)
    assert "script" not in walk.tags
    assert all(target.startswith("#") for target in walk.targets)
    assert not {"img", "link", "iframe", "object", "embed", "form", "base"} & set(walk.tags)
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", html)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in html


def test_ids_are_unique_and_every_reference_has_its_target(documents, kind):
    html = render_html(documents[kind], kind)
    walk = Walk(html)
    assert len(walk.ids) == len(set(walk.ids))
    wanted = {target[1:] for target in walk.targets} | set(re.findall(r"url\(#([\w-]+)\)", html))
    assert wanted
    assert wanted <= set(walk.ids)


@pytest.mark.parametrize(("name", "figures"), [("run", 4), ("protect", 2), ("demo", 12)])
def test_every_figure_has_an_accessible_name_and_a_reading(documents, name, figures):
    html = render_html(documents[name], name)
    walk = Walk(html)
    assert len(walk.svgs) == figures
    for svg in walk.svgs:
        assert svg["role"] == "img"
        title = re.search(rf'<title id="{svg["aria-labelledby"]}">([^<]+)</title>', html)
        assert len(title[1]) > 20
    assert html.count("How to read this.") == figures


def test_equal_documents_give_equal_pages_and_stay_unchanged(documents, kind):
    before = json.dumps(documents[kind])
    first = render_html(documents[kind], kind)
    assert json.dumps(documents[kind]) == before
    assert render_html(json.loads(before), kind) == first


def test_the_page_shows_the_documents_numbers(documents):
    html = render_html(documents["demo"], "demo")
    text = " ".join(" ".join(Walk(html).text).split())
    assert "3 min 12 s" in text
    assert "65.4%" in text
    assert "privet audit runs/mine" in text
    assert "50% (0.5) is what guessing achieves" in text
    assert "att-x50.safetensors" in text
    assert "versions.torch 2.13.0" in text


def test_hostile_text_is_shown_not_run(run):
    evil = (
        "<script>alert(1)</script>\"'><img src=http://x onerror=y>{{ 7*7 }}$x_1$ \x1b[31m\x00\ud800"
    )
    run["prune"].update(dataset=evil, model=evil, defense=evil, note=evil)
    run["prune"]["versions"][evil] = evil
    run["audit"].update(dataset=evil, defense=evil, shadows=evil)
    run["audit"]["findings"][0].update(attack=evil, paper=evil)
    html = render_html(run, "run")
    walk = Walk(html)
    html.encode("utf-8")
    assert not {"script", "img"} & set(walk.tags)
    assert "{{ 7*7 }}$x_1$" in "".join(walk.text)
    assert not set("\x00\x1b\ud800") & set(html)


def test_hostile_text_in_the_other_documents(demo):
    evil = "<script>alert(1)</script>"
    demo.update(title=evil, intro=evil, next=[evil], versions={evil: evil})
    demo["pruning"][0]["prune"]["defense"] = evil
    demo["protection"].update(dataset=evil)
    demo["protection"]["attack"]["name"] = evil
    demo["protection"]["tiers"][0]["bundle"] = evil
    html = render_html(demo, "demo")
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    Walk(html)


def test_hostile_text_in_groups_and_samples(run):
    evil = "<script>alert(1)</script>|$x_1$\x1b[31m\x00\ud800" + "z" * 400
    run["audit"]["skipped"] = {evil: evil}
    for finding in run["audit"]["findings"]:
        for entries in finding["breakdowns"].values():
            entries[0]["name"] = evil
        finding["most_exposed"][0]["sample"] = evil
    html = render_html(run, "run")
    html.encode("utf-8")
    walk = Walk(html)
    assert "script" not in walk.tags
    assert "<script>alert(1)</script>|$x_1$" in "".join(walk.text)
    assert not set("\x00\x1b\ud800") & set(html)


def test_a_run_of_before_breakdowns_says_what_it_holds_and_no_more(older):
    html = render_html(older, "run")
    assert len(Walk(html).svgs) == 3
    for absent in ("Who is exposed", "Planted canaries", "Online", "Offline", "Not run"):
        assert absent not in html
    assert "Adaptive: 5 shadow models" in html


@pytest.mark.parametrize(
    "change",
    [
        lambda finding: finding.update(breakdowns=None, most_exposed=None),
        lambda finding: finding["breakdowns"].update(memorization=None, canaries=[]),
        lambda finding: finding["breakdowns"]["memorization"].pop(),
        lambda finding: [
            entry.update(auc=None, auc_low=None, auc_high=None, tpr_at_fpr=None)
            for entries in finding["breakdowns"].values()
            for entry in entries
        ],
        lambda finding: finding["most_exposed"][0].update(fpr=None),
    ],
)
def test_a_run_with_parts_missing_renders(run, change):
    for finding in run["audit"]["findings"][:7]:
        change(finding)
    Walk(render_html(run, "run"))
    for finding in run["audit"]["findings"][7:]:
        change(finding)
    Walk(render_html(run, "run"))


def test_the_page_shows_who_is_exposed(run):
    text = " ".join(" ".join(Walk(render_html(run, "run")).text).split())
    assert "Most exposed members" in text
    assert "Most exposed classes" in text
    assert "TPR at 1% FPR by memorization" in text
    assert "Of the 150 planted canaries, rmia finds 63.1%" in text
    assert "Not run: multi-release (lacks signals of another release of the same target)." in text
    assert "Online: some shadow models trained on audited samples, too." in text


def test_names_outside_the_font_are_drawn_without_a_warning(run):
    run["audit"]["findings"][0]["attack"] = "\u653b\u6483"
    assert "\u653b\u6483" in render_html(run, "run")


def test_a_run_without_an_audit_says_so(run):
    html = render_html(run | {"audit": None}, "run")
    assert "has not been audited" in html
    assert len(Walk(html).svgs) == 1


def test_a_run_is_titled_by_its_data_and_defense(run):
    assert "<h1>location, pruned without a defense</h1>" in render_html(run, "run")
    run["prune"]["defense"] = "rmr"
    html = render_html(run | {"audit": None}, "run")
    assert "<h1>location, pruned under the defense rmr</h1>" in html
    assert "RUN" not in html


def test_a_figure_says_when_its_lines_are_about_different_users(build):
    words = "The unpruned model was attacked on the first 400 of 1,631 users only"
    html = render_html(build, "protect")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert [words in caption for caption in captions] == [True, False]
    assert len(re.findall(rf'<p class="note">[^<]*{words}', html)) == 3
    assert "first 400 of 1,631 users" in re.search(r"<svg.*?</svg>", html, re.DOTALL)[0]
    build["attacked_users"] = 400
    assert "first 400" not in render_html(build, "protect")
    del build["attacked_users"]
    assert "on the first 400 users only" in render_html(build, "protect")


def test_a_tour_with_one_unaudited_defense_renders(demo):
    demo["pruning"][1]["audit"] = None
    assert "not audited" in render_html(demo, "demo")


def test_attacks_that_only_rank_render(run, demo):
    for finding in run["audit"]["findings"]:
        finding["balanced_accuracy"] = None
        del finding["roc"]
    demo["pruning"] = [run]
    html = render_html(run, "run")
    assert "The most accurate" not in html
    assert len(Walk(html).svgs) == 3
    Walk(render_html(demo, "demo"))


def test_the_documents_least_form_renders(run, build):
    for key in ("parameters", "nonzero", "pruner", "versions"):
        del run["prune"][key]
    for key in ("dataset", "defense", "sparsity", "shadows", "test_accuracy", "train_accuracy"):
        del run["audit"][key]
    Walk(render_html(run, "run"))
    build.update(kind="membership", base_attack_accuracy_by_budget=None, definitions={})
    del build["attack"]
    Walk(render_html(build, "protect"))


def test_extreme_figures_render(run, build):
    run["prune"]["rounds"] = []
    run["audit"]["findings"] = run["audit"]["findings"][:1]
    run["audit"]["findings"][0].update(members=1, nonmembers=1, auc=1.0, balanced_accuracy=1.0)
    Walk(render_html(run, "run"))
    run["audit"]["findings"] = []
    Walk(render_html(run, "run"))
    for tier in build["tiers"]:
        tier.update(attack_accuracy_by_budget={}, attack_accuracy=None, accuracy=0.0, parameters=7)
    Walk(render_html(build, "protect"))


def test_an_unknown_kind_is_refused(run):
    with pytest.raises(OptionError, match="'audit'; choose from run, protect, demo"):
        render_html(run, "audit")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: run["prune"].pop("rounds"), "lacks 'rounds'"),
        (lambda run: run["prune"].update(test_accuracy="<b>"), "expected a number"),
        (lambda run: run["audit"].update(findings=3), "does not have a report's shape"),
        (lambda run: run["audit"]["findings"][0].update(tpr_at_fpr={"0": {}}), "shape"),
        (lambda run: run["audit"].update(skipped=["lira"]), "shape"),
        (lambda run: run["audit"]["findings"][0].update(breakdowns=7), "shape"),
        (lambda run: run["audit"]["findings"][0].update(most_exposed=[{"sample": 1}]), "'fpr'"),
        (
            lambda run: run["audit"]["findings"][0]["most_exposed"][0].update(sample=[1]),
            "shape",
        ),
    ],
)
def test_a_damaged_document_is_a_data_error(run, damage, message):
    damage(run)
    with pytest.raises(DataError, match=message):
        render_html(run, "run")


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_a_missing_library_is_named_with_the_remedy(run, library, monkeypatch):
    page._environment.cache_clear()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(OptionError, match=r"pip install 'privet\[report\]'") as caught:
        render_html(run, "run")
    assert library in str(caught.value).lower()


def test_a_users_matplotlib_settings_change_nothing(run):
    import matplotlib

    plain = render_html(run, "run")
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "other", "lines.linewidth": 9}):
        assert render_html(run, "run") == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_importing_the_room_imports_nothing_heavy():
    code = (
        "import sys; from privet.report import page, plots, terminal; "
        "print([m for m in ('torch', 'matplotlib', 'jinja2', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_drawing_leaves_pyplot_alone(run):
    code = (
        "import json, sys; from privet.report import render_html; "
        "render_html(json.load(sys.stdin), 'run'); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(run),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
