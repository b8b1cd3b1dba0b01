//! Who may ask, and for what: tokens with a role and a project, how they end, and the note of what was changed.

use axum::body::Body;
use axum::http::{Method, Request};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use journeys::Platform;
use serde_json::{Value, json};

const ROOT: &str = "the long token";

async fn platform() -> Platform {
    Platform::configured(|config| config.http.token = Some(ROOT.into())).await
}

/// Asks under a token.
async fn ask(platform: &Platform, token: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .header("x-request-id", "of-the-test");
    platform.send(request.body(Body::from(body.to_string())).unwrap()).await
}

/// A token as it is shown, and its id.
async fn token(platform: &Platform, body: Value) -> (String, String) {
    let (status, made) = ask(platform, ROOT, Method::POST, "/v1/tokens", body).await;
    assert_eq!(status, 201, "{made}");
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    (text("token"), text("token_id"))
}

const DEFINITIONS: &str = "/v1/definitions";

fn some_definitions() -> Value {
    json!({ "files": { "a.toml": "[[entity]]\nname = \"shop\"\nkeys = [\"shop\"]\n" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_what_the_ones_before_it_may_and_more() {
    let platform = platform().await;
    let mut tokens = vec![];
    for role in ["reader", "writer", "admin"] {
        tokens.push(token(&platform, json!({ "name": format!("a {role}"), "role": role })).await.0);
    }
    for (method, path, body, expected) in [
        (Method::GET, DEFINITIONS, json!({}), [200, 200, 200]),
        (Method::POST, "/api/2.0/mlflow/runs/search", json!({ "experiment_ids": ["0"] }), [200, 200, 200]),
        (Method::PUT, DEFINITIONS, some_definitions(), [403, 200, 200]),
        (Method::GET, "/v1/tokens", json!({}), [403, 403, 200]),
        (Method::POST, "/v1/tokens", json!({ "name": "x", "role": "reader" }), [403, 403, 201]),
    ] {
        for (token, expected) in tokens.iter().zip(expected) {
            let (status, said) = ask(&platform, token, method.clone(), path, body.clone()).await;
            assert_eq!(status, expected, "{method} {path}: {said}");
        }
    }
    let (_, refused) = ask(&platform, &tokens[0], Method::PUT, DEFINITIONS, some_definitions()).await;
    let detail = refused["detail"].as_str().unwrap();
    assert_eq!(detail, "a reader asks as a reader, who may not change this; ask with the token of a writer");
    let create = "/api/2.0/mlflow/registered-models/create";
    let (status, refused) = ask(&platform, &tokens[0], Method::POST, create, json!({ "name": "m" })).await;
    assert_eq!((status, &refused["error_code"]), (403.try_into().unwrap(), &json!("PERMISSION_DENIED")));
    assert_eq!(refused["message"], detail, "in MLflow's shape on MLflow's path: {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_its_own_project_until_it_ends_and_a_new_one_takes_its_place() {
    let platform = platform().await;
    let (elsewhere, _) = token(&platform, json!({ "name": "b", "role": "writer", "project": "other" })).await;
    assert_eq!(ask(&platform, &elsewhere, Method::GET, DEFINITIONS, json!({})).await.0, 401);
    let (old, id) = token(&platform, json!({ "name": "ci", "role": "writer", "project": "default" })).await;
    let rotate = format!("/v1/tokens/{id}/rotate");
    let (status, made) = ask(&platform, ROOT, Method::POST, &rotate, json!({ "overlap_seconds": 0 })).await;
    assert_eq!((status, &made["name"], &made["role"]), (201, &json!("ci"), &json!("writer")), "{made}");
    let new = made["token"].as_str().unwrap();
    assert_eq!(ask(&platform, new, Method::GET, DEFINITIONS, json!({})).await.0, 200);
    assert_eq!(ask(&platform, &old, Method::GET, DEFINITIONS, json!({})).await.0, 401, "it ended");
    let revoke = format!("/v1/tokens/{}/revoke", made["token_id"].as_str().unwrap());
    assert_eq!(ask(&platform, ROOT, Method::POST, &revoke, json!({})).await.0, 204);
    let mut pause = tokio::time::interval(std::time::Duration::from_millis(200));
    while ask(&platform, new, Method::GET, DEFINITIONS, json!({})).await.0 != 401 {
        pause.tick().await; // a process believes what it read for five seconds
    }
    let almost = format!("{}x", &new[..new.len() - 1]);
    assert_eq!(ask(&platform, &almost, Method::GET, DEFINITIONS, json!({})).await.0, 401);
    for unfit in [json!({ "name": " ", "role": "reader" }), json!({ "name": "x", "role": "king" })] {
        assert_eq!(ask(&platform, ROOT, Method::POST, "/v1/tokens", unfit).await.0, 422);
    }
    let over = json!({ "name": "x", "role": "reader", "expires_at": "2013-01-01T00:00:00Z" });
    assert_eq!(ask(&platform, ROOT, Method::POST, "/v1/tokens", over).await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_names_the_tokens_holder_whatever_name_is_claimed_beside_it() {
    let platform = platform().await;
    let (ana, _) = token(&platform, json!({ "name": "ana", "role": "writer" })).await;
    let mlflow = |path: &str| format!("/api/2.0/mlflow/{path}");
    for (path, body) in [
        ("registered-models/create", json!({ "name": "m" })),
        ("model-versions/create", json!({ "name": "m", "source": "s3://a/b" })),
    ] {
        assert_eq!(ask(&platform, &ana, Method::POST, &mlflow(path), body).await.0, 200);
    }
    let claim = BASE64_STANDARD.encode(format!("bob:{ana}"));
    let body = json!({ "name": "m", "alias": "best", "version": "1" });
    let request = Request::post(mlflow("registered-models/alias"))
        .header("authorization", format!("Basic {claim}"))
        .body(Body::from(body.to_string()));
    assert_eq!(platform.send(request.unwrap()).await.0, 200);
    let (_, history) = ask(&platform, &ana, Method::GET, "/v1/models/m/history", json!({})).await;
    assert_eq!(history["history"][0]["actor"], "ana", "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_and_by_whom_is_written_down_and_no_secret_is() {
    let platform = platform().await;
    let (ana, _) = token(&platform, json!({ "name": "ana", "role": "writer" })).await;
    ask(&platform, &ana, Method::PUT, DEFINITIONS, some_definitions()).await;
    ask(&platform, &ana, Method::GET, DEFINITIONS, json!({})).await;
    let (status, entries) = ask(&platform, ROOT, Method::GET, "/v1/audit", json!({})).await;
    assert_eq!(status, 200);
    let seen: Vec<(&str, &str, i64)> = entries
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap();
            (text("actor"), text("path"), entry["status"].as_i64().unwrap())
        })
        .collect();
    assert_eq!(seen, [("ana", DEFINITIONS, 200), ("anonymous", "/v1/tokens", 201)], "newest first");
    assert_eq!(entries[0]["request_id"], "of-the-test");
    let secret = ana.rsplit('_').next().unwrap();
    let dump = sqlx::query_scalar::<_, String>(
        "select (select json_agg(t) from tokens t)::text || (select json_agg(a) from audit a)::text",
    );
    let dump = dump.fetch_one(&platform.context.db).await.unwrap();
    assert!(dump.contains("argon2id") && !dump.contains(secret) && !dump.contains(ROOT));
}
