from xml.etree import ElementTree

from unlearn_bench.report import figures
from unlearn_bench.report.labels import Label, place_labels
from unlearn_bench.report.table import sections
from unlearn_bench.results import Record, table, with_time_ratios

SVG = "{http://www.w3.org/2000/svg}"


def drawn(runs):
    return figures.draw(sections(with_time_ratios(table(runs))))


def words(svg):
    return {"".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{SVG}text")}


def test_every_measured_method_is_labelled_directly(realistic):
    accuracy, cost = drawn(realistic())[0]
    methods = {run.method for run in realistic()}
    assert methods <= words(accuracy.svg)
    assert methods - {"retrain", "original"} <= words(cost.svg)


def test_title_states_the_finding_and_caption_the_seeds(realistic):
    accuracy, cost = drawn(realistic())[0]
    assert accuracy.title == "gradient_ascent lost retain accuracy; finetune forgot too little"
    assert cost.title.startswith("pbu, the nearest to retraining, took")
    assert all("n = 3" in figure.caption for figure in (accuracy, cost))


def test_hostile_labels_leave_the_file_well_formed(run):
    accurate = {"forget_accuracy": 0.0, "retain_accuracy": 1.0, "wall_seconds": 1.0}
    name = '<script>$x_{$ & "q" \x07'
    ((accuracy, cost),) = drawn(
        [run("retrain", kind="reference", **accurate), run(name, **accurate)]
    ).values()
    for figure in (accuracy, cost):
        assert any('<script>$x_{$ & "q"' in word for word in words(figure.svg))


def test_inlined_drawing_has_theme_colours_and_no_ids_of_groups(realistic):
    page = figures.inline(drawn(realistic())[0][0].svg)
    assert page.startswith('<svg role="img"')
    assert "var(--ink)" in page and figures.INK not in page
    assert "http" not in page
    assert '<g id="' not in page


def test_sections_write_different_files(realistic):
    found = drawn(realistic(1, ("class:2", "class/2")))
    paths = [figure.path for section in found.values() for figure in section]
    assert len(set(paths)) == 4


def test_nothing_is_drawn_from_nothing(run):
    assert drawn([run("pbu", error="boom")]) == {}


def test_without_retraining_accuracy_is_shown_as_it_is(run):
    ((accuracy,),) = drawn(
        [run("pbu", forget_accuracy=0.1, retain_accuracy=0.9, wall_seconds=1.0)]
    ).values()
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


def test_labels_without_room_are_named_in_the_caption(run):
    accurate = {"forget_accuracy": 0.0, "retain_accuracy": 1.0}
    runs = [run("retrain", kind="reference", **accurate)]
    runs += [run(f"a_method_with_a_long_name_{i}", **accurate) for i in range(30)]
    ((accuracy,),) = drawn(runs).values()
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
        run(method, kind=kind, forget_accuracy=0.0, retain_accuracy=1.0, records=tuple(
            Record("forget_predicted_as", name, value) for name, value in shares.items()))
        for method, kind, shares in (
            ("retrain", "reference", {"cat": 0.25, "dog": 0.75, "fox": 0.0}),
            ("pbu", "method", {"cat": 1.0, "dog": 0.0, "fox": 0.0}),
        )
    ]  # fmt: skip
    (section,) = sections(table(runs))
    figure = next(f for f in figures.draw((section,))[0] if f.path == "figures/classes.svg")
    for text in (">cat<", ">dog<", ">75<", ">25<", ">100<", ">pbu<"):
        assert text in figure.svg
    assert not any("forget_predicted_as" in column for column in section.table.columns)
