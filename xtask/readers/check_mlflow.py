"""Reads a file store that Parlor wrote with MLflow's own client, and compares it with metrics.jsonl.

usage: check_mlflow.py MLRUNS METRICS.jsonl
"""

import json
import os
import pathlib
import sys

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"

from mlflow.tracking import MlflowClient  # noqa: E402


def main(store, metrics):
    client = MlflowClient(tracking_uri=pathlib.Path(store).resolve().as_uri())
    experiments = client.search_experiments()
    runs = client.search_runs([experiment.experiment_id for experiment in experiments])
    assert len(runs) == 1, f"{len(runs)} runs, expected one"
    run = runs[0]
    assert run.info.status == "FINISHED", run.info.status
    assert run.data.params, "no parameter was logged"
    rows = [json.loads(line) for line in pathlib.Path(metrics).read_text().splitlines()]
    want = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    history = client.get_metric_history(run.info.run_id, "loss")
    got = sorted((metric.step, metric.value) for metric in history)
    assert [step for step, _ in got] == [step for step, _ in want], f"steps {got} but {want}"
    assert all(abs(a - b) < 1e-9 for (_, a), (_, b) in zip(got, want)), f"losses {got} but {want}"
    print(f"mlflow reads {len(got)} losses and {len(run.data.params)} parameters")


if __name__ == "__main__":
    main(*sys.argv[1:])
