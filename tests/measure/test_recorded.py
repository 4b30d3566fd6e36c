"""What a suite writes down of the probes and attacks that see more."""

import csv
import json


def test_new_metrics_stand_in_the_records_beside_the_old_ones(finished):
    with (finished.out / "records.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "finetune"]
    measured = {row["metric"] for row in rows if row["status"] == "ok"}
    assert measured >= {
        "mia_entropy_auc",
        "relearn_time",
        "relearn_time_features",
        "mia_loss_two_sided_auc",
        "mia_loss_density_auc",
        "mia_label_only_auc",
        "label_rank",
        "input_recovery",
        "layers_changed",
        "hidden_layers_changed",
    }
    distances = {row["split"] for row in rows if row["metric"] == "layer_distance"}
    assert "classifier" in distances and len(distances) == 8
    page = (finished.out / "report.html").read_text()
    assert "Input recovery" in page and "Hidden layers changed" in page


def test_a_probe_is_made_once_per_weights_and_its_time_is_noted(finished):
    runs = [json.loads(path.read_text()) for path in (finished.out / "runs").glob("*.json")]
    assert any("probe input_recovery" in run["metric_seconds"] for run in runs)
