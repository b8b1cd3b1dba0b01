"""Asks a running worker with MLflow's own scoring client: `python mlflow_scoring.py URL MODEL ROWS`, ROWS being JSON.

Sends the rows, some with nothing in a column, in every form that `/invocations` takes, and fails unless each answer is what
`/v1/predict` says of what MLflow's own server would have read, to the bit.
"""

import io
import json
import sys
import urllib.parse

import numpy as np
import pandas as pd
import requests
from mlflow.pyfunc import scoring_server
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from mlflow.utils.proto_json_utils import _CustomJsonEncoder, dump_input_data, get_jsonable_input

url, model = sys.argv[1:3]
frame = pd.DataFrame(json.loads(sys.argv[3]))
frame["event_time"] = pd.to_datetime(frame["event_time"])
frame["busy__count_1d"] = [float(at) for at in range(len(frame))]
frame.loc[0, ["x", "busy__count_1d"]] = np.nan  # pandas has no other number for nothing
frame.loc[1, "carrier"] = None
frame.loc[2, "x"] = np.inf


def predict(read):
    """What `/v1/predict` says of a frame, with null where pandas has nothing."""
    times = pd.to_datetime(read["event_time"]).map(lambda at: at.isoformat())
    read = read.assign(event_time=times).astype(object)
    rows = read.where(read.notna(), None).replace({np.inf: "Infinity"}).to_dict(orient="records")
    answer = requests.post(f"{url}/v1/predict", json={"model": model, "rows": rows})
    assert answer.status_code == 200, answer.text
    return [prediction["probability"] for prediction in answer.json()["predictions"]]


def invoke(body, kind=scoring_server.CONTENT_TYPE_JSON):
    answer = requests.post(f"{url}/invocations", data=body, headers={"Content-Type": kind})
    assert answer.status_code == 200, (body, answer.text)
    return answer.json()["predictions"]


def dumps(value):
    return json.dumps(value, cls=_CustomJsonEncoder)


def read_by_mlflow(body):
    data, _ = scoring_server._split_data_and_params(body)
    return scoring_server.infer_and_parse_data(data)


expected = predict(frame)
assert len(set(expected)) == len(frame) and expected != predict(frame.fillna({"x": 0.0, "carrier": "UA"})), expected

client = ScoringServerClient(*urllib.parse.urlsplit(url).netloc.split(":"))
client.wait_server_ready()
answer = client.invoke(frame, params={})
assert answer.get_predictions("ndarray").tolist() == expected, answer
assert list(answer.get_predictions()[0]) == expected, answer

split = dump_input_data(frame)
assert "NaN" in split and "Infinity" in split, split
records = dumps({"dataframe_records": frame.to_dict(orient="records")})
for body in [split, records]:
    assert invoke(body) == expected == predict(read_by_mlflow(body)), body
by_column = {name: get_jsonable_input(name, frame[name].to_numpy()) for name in frame}
for body in [
    dump_input_data(frame.to_dict(orient="records"), inputs_key="instances"),
    dump_input_data(frame.to_dict(orient="records"), inputs_key="inputs"),
    dumps({"inputs": {**by_column, "event_time": list(frame["event_time"])}}),
    dumps({"dataframe_split": frame.astype(object).where(frame.notna(), None).to_dict(orient="split")}),
]:
    assert invoke(body) == expected, body

csv = frame.to_csv(index=False)
assert invoke(csv, scoring_server.CONTENT_TYPE_CSV) == expected == predict(scoring_server.parse_csv_input(io.StringIO(csv)))
for word in ["NA", "nan", "NULL", "None", "<NA>"]:
    csv = frame[["visitor", "event_time", "x", "busy__count_1d"]].to_csv(index=False, na_rep=word)
    read = scoring_server.parse_csv_input(io.StringIO(csv))
    assert invoke(csv, scoring_server.CONTENT_TYPE_CSV) == predict(read), csv

named = frame.assign(visitor="NaN, Infinity and \\ \"-Infinity\"")
assert invoke(dump_input_data(named)) == predict(named), "words in texts stay what they are"
for body in ["NaN", '{"instances": [{"x": NaNo}]}', '{"instances": [{"x": "NaN]}', '{"instances": [{NaN: 1}]}']:
    assert requests.post(f"{url}/invocations", data=body).status_code == 400, body
print("ok")
