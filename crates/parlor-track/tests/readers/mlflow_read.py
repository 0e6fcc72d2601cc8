"""Reads a store written by `cargo run -p parlor-track --example write_store -- DIR` with MLflow's own client.

usage: mlflow_read.py DIR [EXPECTED.json]     (EXPECTED.json: DIR/expected.json when left out)
needs: mlflow-skinny; exits 1 and says what differs when MLflow does not find what it should.
"""

import json
import os
import sys
from pathlib import Path

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"

from mlflow import MlflowClient  # noqa: E402  (the variable must be there first)


def main() -> int:
    directory = Path(sys.argv[1]).resolve()
    expected_path = Path(sys.argv[2]) if len(sys.argv) > 2 else directory / "expected.json"
    expected = json.loads(expected_path.read_text(encoding="utf-8"))
    problems = []

    def check(what, found, wanted):
        if found != wanted:
            problems.append(f"{what}: found {repr(found):.600}, expected {repr(wanted):.600}")

    client = MlflowClient(tracking_uri=(directory / expected["tracking_dir"]).as_uri())
    names = sorted(e.name for e in client.search_experiments())
    check("experiments", names, sorted(["Default", expected["experiment"]]))
    experiment = client.get_experiment_by_name(expected["experiment"])
    check("length of the experiment's id", len(experiment.experiment_id), 18)
    runs = client.search_runs([experiment.experiment_id])
    check("runs", [r.info.run_id for r in runs], [expected["run_id"]])
    by_tag = client.search_runs(
        [experiment.experiment_id],
        filter_string="metrics.loss < 1 and attributes.status = 'FINISHED'",
    )
    check("runs found by a filter", len(by_tag), 1)

    run = client.get_run(expected["run_id"])
    check("run name", run.info.run_name, expected["run_name"])
    check("status", run.info.status, expected["status"])
    check("end after start", run.info.end_time > run.info.start_time, True)
    check("params", dict(run.data.params), expected["params"])
    check("tags", dict(run.data.tags), expected["tags"])
    check("metric names", sorted(run.data.metrics), sorted(expected["metrics"]))
    for name, wanted in expected["metrics"].items():
        history = client.get_metric_history(run.info.run_id, name)
        found = [[m.step, m.value if abs(m.value) < float("inf") else str(m.value)] for m in history]
        check(f"history of {name}", found, wanted)
        if any(m.timestamp < run.info.start_time for m in history):
            problems.append(f"{name}: a point is older than the run")
    artifacts = sorted(a.path for a in client.list_artifacts(run.info.run_id))
    check("artifacts", artifacts, expected["artifacts"])

    # MLflow can go on writing where Parlor stopped.
    client.log_metric(run.info.run_id, "loss", 0.25, step=9)
    check("points after one more", len(client.get_metric_history(run.info.run_id, "loss")), 9)
    client.set_tag(run.info.run_id, "read", "yes")

    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"mlflow reads the store: {len(expected['metrics'])} metrics, {len(expected['params'])} params")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
