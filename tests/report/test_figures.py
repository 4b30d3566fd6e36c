"""Figures: what they label and say, and that their files are well-formed and stand alone."""

import io
import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pandas
import pytest

from unlearn_bench.analysis.table import sections
from unlearn_bench.report import figures
from unlearn_bench.report.figures import canvas, roc
from unlearn_bench.report.figures.cost import pareto_front
from unlearn_bench.report.figures.labels import Label, place_labels
from unlearn_bench.report.figures.ranking import critical_difference, friedman, why_absent
from unlearn_bench.report.glance import glance
from unlearn_bench.results import curves as stored_curves
from unlearn_bench.results.ratios import with_time_ratios
from unlearn_bench.results.records import Record, table

SVG = "{http://www.w3.org/2000/svg}"


def drawn(runs, curves=None, only=None):
    """All figures of every section by name, or ``only`` some of those that records make."""
    with pytest.MonkeyPatch.context() as patch:
        if only is not None:
            some = tuple(pair for pair in figures._OF_RECORDS if pair[0] in only)
            patch.setattr(figures, "_OF_RECORDS", some)
        found = figures.draw(sections(with_time_ratios(table(runs))), curves)
    return {place: {figure.name: figure for figure in some} for place, some in found.items()}


def pick(runs, *names):
    """The named figures of the only section."""
    found = drawn(runs, only=names)[0]
    return [found[name] for name in names]


def words(svg):
    return {"".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{SVG}text")}


@pytest.fixture(scope="module")
def all_drawn(invented):
    """The figures of the realistic runs with their curves, by name; drawn once."""
    found = drawn(invented(), stored_curves.table(invented()))
    return {name: figure for some in found.values() for name, figure in some.items()}


def test_every_measured_method_is_labelled_directly(realistic, all_drawn):
    accuracy, cost = all_drawn["accuracy"], all_drawn["cost"]
    methods = {run.method for run in realistic()}
    assert methods <= words(accuracy.svg)
    assert methods - {"retrain", "original"} <= words(cost.svg)


def test_title_states_the_finding_and_caption_the_seeds(all_drawn):
    accuracy, cost = all_drawn["accuracy"], all_drawn["cost"]
    assert accuracy.title == "gradient_ascent lost retain accuracy; finetune forgot too little"
    assert cost.title.startswith("pbu, at the smallest distance, took")
    assert all("n = 3" in figure.caption for figure in (accuracy, cost))


def test_hostile_labels_leave_the_file_well_formed(run):
    accurate = {"forget_accuracy": 0.0, "retain_accuracy": 1.0, "wall_seconds": 1.0}
    name = '<script>$x_{$ & "q" \\1 \\d \x07'
    found = drawn([run("retrain", kind="reference", **accurate), run(name, **accurate)])[0]
    assert {"accuracy", "cost", "phases"} <= set(found)
    for figure in found.values():
        assert any('<script>$x_{$ & "q"' in word for word in words(figure.svg))


def test_inlined_drawing_has_theme_colours_and_no_ids_of_groups(all_drawn):
    page = figures.inline(all_drawn["accuracy"].svg)
    assert page.startswith('<svg role="img"')
    assert "var(--ink)" in page and canvas.INK not in page
    assert "http" not in page
    assert '<g id="' not in page


def test_sections_write_different_files(realistic):
    found = drawn(realistic(1, ("class:2", "class/2")))
    paths = [f.path for section in found.values() for f in section.values()]
    assert len(set(paths)) == len(paths) == 7  # three of each section, one ranking


def test_nothing_is_drawn_from_nothing(run):
    assert drawn([run("pbu", error="boom")]) == {}


def test_without_retraining_accuracy_is_shown_as_it_is(run):
    (accuracy,) = pick(
        [run("pbu", forget_accuracy=0.1, retain_accuracy=0.9, wall_seconds=1.0)], "accuracy"
    )
    assert "Forget accuracy, %" in words(accuracy.svg)
    assert "target is not known" in accuracy.caption


def test_labels_of_crowded_points_never_overlap_and_none_is_lost():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    canvas = Figure(figsize=(5, 4))
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    labels = [Label(f"method_{i}", 0.3 + 0.01 * i, 0.3 + 0.01 * i) for i in range(40)]
    left_out = place_labels(axes, labels, [], "black", "grey", "white")
    placed = [text.get_text() for text in axes.texts]
    assert len(placed) >= 8
    assert placed[0] == "method_0", "the first has the first choice"
    assert sorted(placed + left_out) == sorted(label.text for label in labels)
    canvas.draw_without_rendering()
    # The words alone: an annotation's own extent includes the line to its point.
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    for i, box in enumerate(boxes):
        assert axes.bbox.x0 <= box.x0 and box.x1 <= canvas.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
        # Three points between two names in a line, or they read as one.
        beside = [o for o in boxes[i + 1 :] if min(box.y1, o.y1) - max(box.y0, o.y0) > 1]
        gaps = [max(o.x0 - box.x1, box.x0 - o.x1) for o in beside]
        assert all(gap >= 3 * canvas.dpi / 72 for gap in gaps)


def test_labels_without_room_are_named_in_the_caption(run):
    accurate = {"forget_accuracy": 0.0, "retain_accuracy": 1.0}
    runs = [run("retrain", kind="reference", **accurate)]
    runs += [run(f"a_method_with_a_long_name_{i}", **accurate) for i in range(30)]
    (accuracy,) = pick(runs, "accuracy")
    (told,) = [part for part in accuracy.caption.split(". ") if part.startswith("No room")]
    shown = words(accuracy.svg)
    for method in (run.method for run in runs):
        assert (method in shown) != (f" {method}," in told or f" {method}:" in told)


def test_label_without_room_is_left_out_and_told():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(1, 1))
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    long = Label("a label far wider than the whole figure", 0.5, 0.5)
    assert place_labels(axes, [long], [], "black", "grey", "white") == [long.text]


def test_where_the_forget_class_goes_is_drawn_by_class(run):
    runs = [
        run(
            method,
            kind=kind,
            forget_accuracy=0.0,
            retain_accuracy=1.0,
            records=tuple(
                Record("forget_predicted_as", name, value) for name, value in shares.items()
            ),
        )
        for method, kind, shares in (
            ("retrain", "reference", {"cat": 0.25, "dog": 0.75, "fox": 0.0}),
            ("pbu", "method", {"cat": 1.0, "dog": 0.0, "fox": 0.0}),
        )
    ]
    (section,) = sections(table(runs))
    (figure,) = pick(runs, "classes")
    assert figure.title == (
        "Retraining sends 75 % of what is to be forgotten to class dog; pbu prefers another"
    )
    for text in (">cat<", ">dog<", ">75<", ">25<", ">100<", ">pbu<"):
        assert text in figure.svg
    assert not any("forget_predicted_as" in column for column in section.table.columns)


def test_every_figure_has_data_caption_with_n_and_print_form(realistic, all_drawn):
    assert set(all_drawn) == {"cost", "accuracy", "roc", "phases", "training", "ranking"}
    for name, figure in all_drawn.items():
        assert "n = 3" in figure.caption, name
        assert figure.title in figure.svg.partition("<path")[0].replace("&apos;", "'"), name
        assert figure.pdf.startswith(b"%PDF") and b"CreationDate" not in figure.pdf, name
        numbers = pandas.read_csv(io.StringIO(figure.data))
        assert len(numbers) and set(numbers["method"]) <= {run.method for run in realistic()}, name


def test_the_download_holds_what_is_drawn(realistic, all_drawn):
    cost, phases = all_drawn["cost"], all_drawn["phases"]
    numbers = pandas.read_csv(io.StringIO(cost.data))
    seeds = {(r.method, r.seed) for r in realistic() if r.kind == "method"}
    assert {(row.method, row.seed) for row in numbers.itertuples()} == seeds
    seconds = pandas.read_csv(io.StringIO(phases.data)).set_index("method")["wall_seconds"]
    of_seeds = [
        record.value
        for run in realistic()
        if run.method == "pbu"
        for record in run.records
        if record.metric == "wall_seconds"
    ]
    assert seconds["pbu"] == pytest.approx(sum(of_seeds) / 3, rel=1e-5)
    assert list(seconds) == sorted(seconds)


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 5), (2, 3), (3, 4), (4, 1)], [0, 1, 3]),
        ([(1, 1), (1, 1), (2, 1)], [0]),
        ([(2, 2), (1, 3), (1, 2.5)], [2, 0]),
    ],
)
def test_nothing_beats_a_method_on_the_front(points, front):
    assert pareto_front(points) == front


def test_the_critical_difference_is_the_published_one():
    # Demšar 2006, table 5: q(0.05) is 2.569 for 4 and 3.164 for 10 classifiers.
    for methods, q in ((2, 1.960), (4, 2.569), (10, 3.164)):
        expected = q * (methods * (methods + 1) / (6 * 14)) ** 0.5
        assert critical_difference(methods, 14) == pytest.approx(expected, rel=1e-3)


def test_the_friedman_test_is_that_of_scipy():
    from scipy.stats import friedmanchisquare

    values = pandas.DataFrame(
        {"a": [1.0, 2.0, 1.5, 1.0], "b": [2.0, 2.0, 3.0, 4.0], "c": [9.0, 3.0, 5.0, 4.0]}
    )
    assert friedman(values) == pytest.approx(friedmanchisquare(*values.T.to_numpy())[1])
    assert friedman(values[["a", "a"]].set_axis(["a", "b"], axis=1)) == 1.0


def test_ranks_count_the_cells_of_all_scenarios(realistic):
    ranking = drawn(realistic(2, ("class:1", "class:2")), only=())[figures.OVERALL]["ranking"]
    assert "n = 4" in ranking.caption
    ranks = pandas.read_csv(io.StringIO(ranking.data)).set_index("method")["mean_rank"]
    # 6 methods: ranks sum to 1 + ... + 6 in every cell.
    assert ranks.sum() == pytest.approx(21, abs=1e-3) and ranks.index[0] == "pbu"


def test_one_cell_or_one_method_is_not_ranked_and_the_reason_is_told(realistic):
    one_seed = realistic(1)
    assert figures.OVERALL not in drawn(one_seed, only=())
    assert "one seed of one scenario" in why_absent(sections(table(one_seed)))
    alone = [r for r in realistic(3) if r.method in ("retrain", "pbu")]
    assert figures.OVERALL not in drawn(alone, only=())
    assert "fewer than two methods" in why_absent(sections(table(alone)))


def test_the_roc_shades_what_is_resolved_and_names_the_stressed(all_drawn):
    roc = all_drawn["roc"]
    assert "from 10 % on" in roc.caption and "against 100 unseen" in roc.caption
    assert {"retrain", "original", "pbu", "guessing"} <= words(roc.svg)
    numbers = pandas.read_csv(io.StringIO(roc.data))
    assert numbers.groupby("method")["tpr"].last().eq(1).all()


def test_training_curves_say_where_they_began_and_ended(all_drawn):
    training = all_drawn["training"]
    assert any(word.startswith("loss 2 → 0.") for word in words(training.svg))
    assert training.title.startswith("7 of 7 logged quantities ended below")


def test_the_greatest_loss_of_a_class_is_in_the_title(run):
    drops = {"retrain": (0.0, 0.0), "pbu": (0.02, -0.01), "ssd": (0.5, 0.0)}
    runs = [
        run(
            method,
            kind="reference" if method == "retrain" else "method",
            forget_accuracy=0.0,
            retain_accuracy=1.0,
            records=(Record("class_drop", "cat", cat), Record("class_drop", "dog", dog)),
        )
        for method, (cat, dog) in drops.items()
    ]
    (damage,) = pick(runs, "damage")
    assert (
        damage.title == "ssd lost 50 points on class cat; 1 of 2 methods lost 10 or more on "
        "some class"
    )
    assert {"50", "−1", "2"} <= words(damage.svg)


def test_a_pointed_mark_says_whose_it_is(all_drawn):
    cost = all_drawn["cost"]
    titles = {node.text for node in ElementTree.fromstring(cost.svg).iter(f"{SVG}title")}
    assert {"pbu", "finetune"} <= titles
    assert "<title>pbu</title>" in figures.inline(cost.svg)


def test_the_file_of_a_figure_of_gaps_says_gaps(run, all_drawn):
    gaps = pandas.read_csv(io.StringIO(all_drawn["accuracy"].data))
    assert list(gaps.columns[2:]) == ["forget_accuracy_gap_points", "retain_accuracy_gap_points"]
    assert gaps[gaps["method"] == "retrain"]["retain_accuracy_gap_points"].eq(0).all()
    (alone,) = pick([run("pbu", forget_accuracy=0.1, retain_accuracy=0.9)], "accuracy")
    numbers = pandas.read_csv(io.StringIO(alone.data))
    assert numbers["retain_accuracy_percent"].tolist() == [90]


def test_the_title_of_cost_counts_as_the_first_screen_does(run):
    # Of dear seeds cheap relative to retraining: the mean of ratios is 1.1, that of sums 0.93.
    seconds = {"retrain": (1.0, 10.0), "slow": (1.4, 8.0), "quick": (0.1, 0.5)}
    runs = [
        run(
            method,
            seed,
            kind="reference" if method == "retrain" else "method",
            wall_seconds=of_seed,
            forget_accuracy=0.0,
            retain_accuracy=1.0,
        )
        for method, both in seconds.items()
        for seed, of_seed in enumerate(both)
    ]
    (phases,) = pick(runs, "phases")
    assert (
        phases.title == "quick is the cheapest, at 7.5 % of retraining’s time; 1 of 2 took longer"
    )
    (section,) = sections(with_time_ratios(table(runs)))
    (cost,) = [fact.text for fact in glance(section).facts if fact.lead == "Cost"]
    assert "the cheapest, quick, 7.5 % of it; 1 of 2 took longer" in cost
    (alone,) = pick([r for r in runs if r.method != "quick"], "phases")
    assert alone.title == "slow took 1.1 times retraining’s time"


def test_captions_name_the_rows_that_have_fewer_seeds(run):
    drop = (Record("class_drop", "cat", 0.5), Record("class_drop", "dog", 0.0))
    common = {"forget_accuracy": 0.0, "retain_accuracy": 1.0, "wall_seconds": 1.0}
    runs = [run("retrain", seed, kind="reference", **common) for seed in (0, 1, 2)]
    runs += [run("pbu", seed, **common) for seed in (0, 1, 2)]
    runs += [run("ssd", 0, records=drop, **common)]
    runs += [run("ssd", seed, error="MethodError: NaN") for seed in (1, 2)]
    found = drawn(runs)
    for name in ("cost", "accuracy", "phases", "damage"):
        assert "(n = 3; ssd n = 1)" in found[0][name].caption, name
    assert found[0]["damage"].title == "ssd lost 50 points on class cat (n = 1)"
    assert figures.OVERALL not in found, "one method is left to rank"
    three = drawn([*runs, *(run("scrub", seed, **common) for seed in (0, 1, 2))], only=())
    caption = three[figures.OVERALL]["ranking"].caption
    assert "Left out, without a distance in every seed: ssd." in caption


def logging(run, method, *series):
    """Runs of a method, one per seed, that log several quantities for some steps."""
    return [
        replace(
            run(method, seed, forget_accuracy=0.0, retain_accuracy=1.0),
            log=tuple(dict(zip("abcd", values, strict=False)) for values in of_seed),
        )
        for seed, of_seed in enumerate(series)
    ]


def test_a_seed_that_stopped_early_still_counts_at_the_end(run):
    long, short = [(v,) for v in (8.0, 6.0, 4.0, 2.0)], [(v,) for v in (8.0, 8.0)]
    runs = logging(run, "pbu", long, short)
    figure = drawn(runs, stored_curves.table(runs), only=())[0]["training"]
    numbers = pandas.read_csv(io.StringIO(figure.data))
    assert numbers["mean"].tolist() == [8, 7, 6, 5]
    assert "a 8 → 5" in words(figure.svg)
    assert "keeps its last value to the end: pbu." in figure.caption


def test_quantities_without_room_are_neither_counted_nor_hidden(run):
    runs = logging(run, "pbu", [(4.0, 4.0, 4.0, 4.0), (3.0, 3.0, 3.0, 3.0), (2.0, 2.0, 2.0, 2.0)])
    training = drawn(runs, stored_curves.table(runs), only=())[0]["training"]
    assert training.title.startswith("3 of 3 logged quantities")
    assert "Of pbu the first 3 quantities are shown" in training.caption
    assert set(pandas.read_csv(io.StringIO(training.data))["series"]) == {"a", "b", "c"}


def test_no_two_stressed_curves_share_a_colour_or_another_way_of_drawing(invented):
    (section,) = sections(with_time_ratios(table(invented())))
    same = {row.method: (canvas.PALETTE[0], "o") for row in section.table.rows}
    figure = roc.draw(section, same, stored_curves.table(invented()))
    strokes = set(re.findall(r"stroke: (#\w{6}); stroke-width: 1.3", figure.svg))
    assert len(strokes) == 5
    # Steps would put the reference below the curves that are drawn straight.
    number = r"-?[\d.]+"
    paths = re.findall(
        rf'd="((?:[ML] {number} {number}\s+)+)"[^>]*stroke: {canvas.INK}', figure.svg
    )
    curve = max(paths, key=len)
    points = [tuple(map(float, pair)) for pair in re.findall(rf"({number}) ({number})", curve)]
    assert len(points) > 20
    assert not all(a[0] == b[0] or a[1] == b[1] for a, b in pairwise(points))
