"""Drives a running registry with MLflow's own, unmodified client: `python mlflow_client.py URL [GUARDED_MODEL]`.

Fails with an assertion that names what differs. With GUARDED_MODEL, a gate guards that model's `champion`.
"""

import math
import os
import sys
import tempfile
from pathlib import Path

os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # an answer of 500 must fail at once

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

URL = sys.argv[1]
mlflow.set_tracking_uri(URL)
client = MlflowClient()


class Doubler(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [2 * x for x in model_input]


def refused(code, words, action):
    try:
        action()
    except MlflowException as error:
        assert error.error_code == code, (error.error_code, error.message)
        assert words in error.message, error.message
        return
    raise AssertionError(f"{code} was expected")


def a_run_keeps_what_was_logged():
    mlflow.set_experiment("flight-delays")
    with mlflow.start_run(run_name="first", tags={"team": "ana"}) as run:
        mlflow.log_param("lr", 0.1)
        mlflow.log_params({"depth": 3, "kind": "boosting"})
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metrics({"auc": 0.71, "ece": 0.02})
        mlflow.log_metric("broken", float("nan"))
        mlflow.log_metric("endless", float("inf"))
        mlflow.set_tag("stage", "trial")
        mlflow.set_tags({"a": "1", "b": "2"})
        mlflow.delete_tag("a")
        mlflow.log_dict({"x": 1}, "config/settings.json")
        mlflow.log_text("Ünïcode", "notes/read me.txt")
    seen = client.get_run(run.info.run_id)
    assert seen.info.status == "FINISHED" and seen.info.run_name == "first", seen.info
    assert seen.data.params == {"lr": "0.1", "depth": "3", "kind": "boosting"}, seen.data.params
    assert seen.data.metrics["loss"] == 0.2 and math.isnan(seen.data.metrics["broken"]), seen.data.metrics
    assert seen.data.metrics["endless"] == sys.float_info.max, seen.data.metrics
    assert seen.data.tags["b"] == "2" and "a" not in seen.data.tags, seen.data.tags
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(s, 1 / (s + 1)) for s in range(5)], history
    refused("INVALID_PARAMETER_VALUE", "Changing param values is not allowed",
            lambda: client.log_param(run.info.run_id, "lr", 0.2))
    refused("RESOURCE_DOES_NOT_EXIST", "not found", lambda: client.get_run("0" * 32))
    return run.info


def its_artifacts_come_back(run):
    listed = client.list_artifacts(run.run_id)
    assert [(f.path, f.is_dir) for f in listed] == [("config", True), ("notes", True)], listed
    inside = client.list_artifacts(run.run_id, "config")
    assert [(f.path, f.is_dir) for f in inside] == [("config/settings.json", False)], inside
    with tempfile.TemporaryDirectory() as folder:
        path = client.download_artifacts(run.run_id, "notes", folder)
        assert (Path(path) / "read me.txt").read_text() == "Ünïcode"
        large = Path(folder) / "large.bin"
        large.write_bytes(os.urandom(3_000_000))
        client.log_artifact(run.run_id, str(large), "blobs")
        back = client.download_artifacts(run.run_id, "blobs/large.bin", tempfile.mkdtemp(dir=folder))
        assert Path(back).read_bytes() == large.read_bytes()


def runs_are_found(first):
    experiment = client.get_experiment_by_name("flight-delays")
    for auc, kind in [(0.6, "logistic"), (0.8, "gpt")]:
        with mlflow.start_run(run_name=kind):
            mlflow.log_param("kind", kind)
            mlflow.log_metric("auc", auc)
    ids = [experiment.experiment_id]

    def found(filter_string, order_by=None):
        return [r.info.run_name for r in client.search_runs(ids, filter_string, order_by=order_by)]

    assert found("metrics.auc > 0.65", ["metrics.auc DESC"]) == ["gpt", "first"]
    assert found("metrics.auc >= 0.6 and params.kind LIKE '%o%'", ["metrics.auc ASC"]) == ["logistic", "first"]
    assert found("tags.team = 'ana' AND attributes.status = 'FINISHED'") == ["first"]
    assert found("params.lr IS NULL", ["params.kind"]) == ["gpt", "logistic"]
    assert found(f"run_id IN ('{first.run_id}')") == ["first"]
    assert found("metrics.broken > 0") == [] and found("metrics.broken != 0") == ["first"]
    assert found("", ["metrics.broken DESC"])[0] == "first"
    refused("INVALID_PARAMETER_VALUE", "Invalid", lambda: client.search_runs(ids, "metrics.auc > 0.5 OR x = 'y'"))
    page = client.search_runs(ids, max_results=2, order_by=["metrics.auc"])
    rest = client.search_runs(ids, max_results=2, order_by=["metrics.auc"], page_token=page.token)
    assert [r.info.run_name for r in [*page, *rest]] == ["logistic", "first", "gpt"] and not rest.token
    client.delete_run(first.run_id)
    assert "first" not in found("")
    client.restore_run(first.run_id)
    assert "first" in found("")


def a_logged_model_is_registered_and_loaded():
    with mlflow.start_run(run_name="maker") as run:
        mlflow.log_metric("auc", 0.9)
        info = mlflow.pyfunc.log_model(
            name="model", python_model=Doubler(), registered_model_name="doubler",
            pip_requirements=["mlflow-skinny"], params={"factor": 2},
        )
    assert str(info.registered_model_version) == "1", info.registered_model_version
    version = client.get_model_version("doubler", "1")
    assert version.run_id == run.info.run_id and version.status == "READY", version
    logged = mlflow.get_logged_model(info.model_id)
    assert str(logged.status) == "READY" and logged.params["factor"] == "2", logged
    assert [m.model_id for m in mlflow.search_logged_models(output_format="list")] == [info.model_id]
    client.set_registered_model_alias("doubler", "champion", "1")
    for uri in ["models:/doubler@champion", "models:/doubler/1", "models:/doubler/latest", info.model_uri]:
        assert mlflow.pyfunc.load_model(uri).predict([1, 2]) == [2, 4], uri
    again = mlflow.register_model(info.model_uri, "doubler")
    assert int(again.version) == 2 and again.run_id == run.info.run_id, again
    return info


def the_registry_keeps_its_books(info):
    client.set_model_version_tag("doubler", "2", "checked", "yes")
    assert client.get_model_version("doubler", "2").tags == {"checked": "yes"}
    client.delete_model_version_tag("doubler", "2", "checked")
    client.set_registered_model_tag("doubler", "owner", "ana")
    client.update_registered_model("doubler", "doubles")
    client.update_model_version("doubler", "2", "the second")
    model = client.get_registered_model("doubler")
    assert (model.description, model.tags, model.aliases) == ("doubles", {"owner": "ana"}, {"champion": "1"}), model
    found = client.search_model_versions("name = 'doubler'", order_by=["version_number DESC"])
    assert [int(v.version) for v in found] == [2, 1] and found[1].aliases == ["champion"], found
    assert [m.name for m in client.search_registered_models("tags.owner = 'ana' AND name LIKE 'dou%'")] == ["doubler"]
    assert client.get_model_version_by_alias("doubler", "champion").version in ("1", 1)
    assert client.get_model_version_download_uri("doubler", "1").endswith(f"{info.model_id}/artifacts")
    staged = client.transition_model_version_stage("doubler", "2", "Production", archive_existing_versions=True)
    assert staged.current_stage == "Production", staged
    assert [int(v.version) for v in client.get_latest_versions("doubler", ["Production"])] == [2]
    refused("RESOURCE_ALREADY_EXISTS", "already exists", lambda: client.create_registered_model("doubler"))
    refused("RESOURCE_DOES_NOT_EXIST", "Registered Model with name=nope not found",
            lambda: client.get_registered_model("nope"))
    refused("INVALID_PARAMETER_VALUE", "reserved", lambda: client.set_registered_model_alias("doubler", "v3", "1"))
    refused("RESOURCE_DOES_NOT_EXIST", "not found",
            lambda: client.set_registered_model_alias("doubler", "champion", "9"))
    client.rename_registered_model("doubler", "twice")
    assert mlflow.pyfunc.load_model("models:/twice@champion").predict([3]) == [6]
    client.delete_registered_model_alias("twice", "champion")
    client.delete_model_version("twice", "2")
    client.delete_registered_model("twice")
    refused("RESOURCE_DOES_NOT_EXIST", "not found", lambda: client.get_registered_model("twice"))


def a_scikit_learn_model_comes_back():
    import mlflow.sklearn
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    inputs = np.array([[0.0], [1.0], [2.0], [3.0]])
    classifier = LogisticRegression().fit(inputs, [0, 0, 1, 1])
    with mlflow.start_run(run_name="classifier"):
        info = mlflow.sklearn.log_model(
            classifier, name="classifier", registered_model_name="classifier", pip_requirements=["scikit-learn"],
            serialization_format="cloudpickle",
        )
    client.set_registered_model_alias("classifier", "champion", "1")
    for uri in ["models:/classifier@champion", info.model_uri]:
        back = mlflow.sklearn.load_model(uri)
        assert (back.predict_proba(inputs) == classifier.predict_proba(inputs)).all(), uri


def metrics_of_logged_models_are_kept_by_data_set():
    experiment = client.get_experiment_by_name("flight-delays").experiment_id
    models = {name: mlflow.create_external_model(name=name, experiment_id=experiment) for name in ["early", "late"]}
    with mlflow.start_run(run_name="judge") as run:
        for name, dataset, value in [("early", "spring", 0.9), ("late", "spring", 0.7), ("early", "autumn", 0.5)]:
            client.log_metric(run.info.run_id, "auc", value, model_id=models[name].model_id,
                              dataset_name=dataset, dataset_digest="d")
    def ordered(dataset):
        order = [{"field_name": "metrics.auc", "ascending": False, "dataset_name": dataset}]
        found = mlflow.search_logged_models([experiment], order_by=order, output_format="list")
        return [m.name for m in found if m.name in models]
    assert ordered("spring") == ["early", "late"] and ordered("autumn") == ["early", "late"]
    found = mlflow.search_logged_models([experiment], "metrics.auc > 0.6", output_format="list",
                                        datasets=[{"dataset_name": "autumn", "dataset_digest": "d"}])
    assert found == [], found
    found = mlflow.search_logged_models([experiment], "metrics.auc > 0.6", output_format="list",
                                        datasets=[{"dataset_name": "spring", "dataset_digest": "d"}])
    assert sorted(m.name for m in found) == ["early", "late"], found


def a_prompt_is_kept_apart_from_models():
    client.register_prompt(name="greeting", template="Hello {{name}}", commit_message="first")
    client.register_prompt(name="greeting", template="Good day {{name}}")
    client.set_prompt_alias("greeting", "polite", 2)
    assert client.load_prompt("prompts:/greeting/1").template == "Hello {{name}}"
    assert client.load_prompt("prompts:/greeting@polite").format(name="Ana") == "Good day Ana"
    assert "greeting" not in [m.name for m in client.search_registered_models()]
    assert "greeting" in [p.name for p in client.search_prompts()]


def a_webhook_is_managed():
    refused("INVALID_PARAMETER_VALUE", "non-public", lambda: client.create_webhook(
        name="inside", url="https://127.0.0.1/hook", events=["registered_model.created"]))
    assert list(client.list_webhooks()) == []


def a_workspace_is_seen():
    names = [w.name for w in mlflow.list_workspaces()]
    assert names == ["default"], names


def a_gate_refuses_a_version_without_evidence(name):
    client.create_registered_model(name)
    with mlflow.start_run() as run:
        mlflow.log_text("weights", "model/weights.txt")
    version = client.create_model_version(name, f"runs:/{run.info.run_id}/model", run.info.run_id)
    refused("RESOURCE_CONFLICT", "never evaluated",
            lambda: client.set_registered_model_alias(name, "champion", version.version))
    assert client.get_registered_model(name).aliases == {}
    client.set_registered_model_alias(name, "shadow", version.version)  # no gate guards it


first = a_run_keeps_what_was_logged()
its_artifacts_come_back(first)
runs_are_found(first)
info = a_logged_model_is_registered_and_loaded()
the_registry_keeps_its_books(info)
a_scikit_learn_model_comes_back()
metrics_of_logged_models_are_kept_by_data_set()
a_prompt_is_kept_apart_from_models()
a_webhook_is_managed()
a_workspace_is_seen()
if len(sys.argv) > 2:
    a_gate_refuses_a_version_without_evidence(sys.argv[2])
print("ok")
