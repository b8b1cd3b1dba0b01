//! A request's fields, whether they came as a query or as JSON, and MLflow's words for those that do not fit.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::Method;
use serde_json::{Map, Value};
use storage::tracking::Pair;

use super::refusal::{Code, Refusal};

/// The fields of a request, or of an object inside one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Input {
    fields: Map<String, Value>,
    path: String,
    /// The size of the body.
    pub(crate) size_bytes: usize,
}

impl<S: Send + Sync> FromRequest<S> for Input {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if request.method() == Method::GET || request.method() == Method::HEAD {
            return Self::from_query(request.uri().query().unwrap_or_default());
        }
        let body = Bytes::from_request(request, state).await.map_err(|rejection| Refusal {
            status: Some(rejection.status()),
            ..Refusal::new(Code::BadRequest, rejection.body_text())
        })?;
        Self::from_json(&body)
    }
}

impl Input {
    fn from_query(query: &str) -> Result<Self, Refusal> {
        let mut fields = Map::new();
        let pairs: Vec<Pair> =
            axum::extract::Query::try_from_uri(&format!("/?{query}").parse().map_err(|_| bad_query())?)
                .map_err(|_| bad_query())?
                .0;
        for (key, value) in pairs {
            let value = Value::String(value);
            match fields.get_mut(&key) {
                None => drop(fields.insert(key, value)),
                Some(Value::Array(values)) => values.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
        Self { fields, ..Self::default() }.checked()
    }

    fn from_json(body: &[u8]) -> Result<Self, Refusal> {
        let size_bytes = body.len();
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let malformed = |error: serde_json::Error| {
            Refusal::new(Code::BadRequest, format!("the body is not JSON: {error}"))
        };
        let mut value: Value = serde_json::from_slice(body).map_err(malformed)?;
        if let Value::String(inner) = &value {
            value = serde_json::from_str(inner).map_err(malformed)?; // what old clients send
        }
        match value {
            Value::Object(fields) => Self { fields, path: String::new(), size_bytes }.checked(),
            other => {
                Err(Refusal::new(Code::BadRequest, format!("the body is {}, not an object", type_of(&other))))
            }
        }
    }

    /// Text with a zero byte cannot be stored anywhere, so it goes no further.
    fn checked(self) -> Result<Self, Refusal> {
        let clean = self.fields.iter().all(|(key, value)| !key.contains('\0') && !has_zero_byte(value));
        if clean { Ok(self) } else { Err(Refusal::invalid("a text holds a zero byte")) }
    }

    /// The fields of a JSON object.
    #[cfg(test)]
    pub(crate) fn from_value(value: &Value) -> Self {
        Self { fields: value.as_object().cloned().unwrap_or_default(), ..Self::default() }
    }

    /// A field as it was sent.
    pub(crate) fn raw(&self, key: &str) -> Option<&Value> {
        self.get(key)
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    /// Whether the field is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn misfit(&self, key: &str, value: &Value) -> Refusal {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Refusal::invalid(format!(
            "Invalid value {value} for parameter '{path}' supplied:  Hint: Value was of type '{}'. See the API docs for \
             more information about request parameters.",
            type_of(value)
        ))
    }

    /// That a field is missing.
    pub(crate) fn absent(&self, key: &str) -> Refusal {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Refusal::invalid(format!(
            "Missing value for required parameter '{path}'. See the API docs for more information about request parameters."
        ))
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, Refusal> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.misfit(key, other)),
        }
    }

    /// A text that must be there and not be empty.
    pub(crate) fn required(&self, key: &str) -> Result<&str, Refusal> {
        self.text(key)?.filter(|text| !text.is_empty()).ok_or_else(|| self.absent(key))
    }

    /// A text that must be there but may be empty.
    pub(crate) fn present(&self, key: &str) -> Result<&str, Refusal> {
        self.text(key)?.ok_or_else(|| self.absent(key))
    }

    /// A whole number, as a number or as its digits.
    pub(crate) fn whole(&self, key: &str) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let whole = match value {
            Value::Number(number) => number.as_i64().or_else(|| {
                let number = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e18)?;
                Some(number as i64)
            }),
            Value::String(digits) => digits.parse().ok(),
            _ => None,
        };
        whole.map(Some).ok_or_else(|| self.misfit(key, value))
    }

    /// A whole number that must be there.
    pub(crate) fn required_whole(&self, key: &str) -> Result<i64, Refusal> {
        self.whole(key)?.ok_or_else(|| self.absent(key))
    }

    /// A number that must be there; `NaN`, `Infinity` and `-Infinity` come as text.
    pub(crate) fn required_number(&self, key: &str) -> Result<f64, Refusal> {
        let value = self.get(key).ok_or_else(|| self.absent(key))?;
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.misfit(key, value))
    }

    /// A truth value; absent is false.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, Refusal> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text == "true" || text == "false" => Ok(text == "true"),
            Some(other) => Err(self.misfit(key, other)),
        }
    }

    fn list(&self, key: &str) -> Result<&[Value], Refusal> {
        match self.get(key) {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(single @ Value::String(_)) if self.size_bytes == 0 => Ok(std::slice::from_ref(single)), // a query
            Some(other) => Err(self.misfit(key, other)),
        }
    }

    /// A list of texts.
    pub(crate) fn texts(&self, key: &str) -> Result<Vec<String>, Refusal> {
        let text = |item: &Value| item.as_str().map(str::to_owned).ok_or_else(|| self.misfit(key, item));
        self.list(key)?.iter().map(text).collect()
    }

    /// A list of objects.
    pub(crate) fn items(&self, key: &str) -> Result<Vec<Self>, Refusal> {
        let item = |(index, item): (usize, &Value)| match item {
            Value::Object(fields) => Ok(Self {
                fields: fields.clone(),
                path: format!("{key}[{index}]"),
                size_bytes: self.size_bytes,
            }),
            other => Err(self.misfit(key, other)),
        };
        self.list(key)?.iter().enumerate().map(item).collect()
    }

    /// An object.
    pub(crate) fn item(&self, key: &str) -> Result<Self, Refusal> {
        match self.get(key) {
            None => Err(self.absent(key)),
            Some(Value::Object(fields)) => {
                Ok(Self { fields: fields.clone(), path: key.to_owned(), size_bytes: self.size_bytes })
            }
            Some(other) => Err(self.misfit(key, other)),
        }
    }

    /// A list of `{"key", "value"}`.
    pub(crate) fn pairs(&self, key: &str) -> Result<Vec<Pair>, Refusal> {
        let pair = |item: Self| {
            Ok((item.present("key")?.to_owned(), item.text("value")?.unwrap_or_default().to_owned()))
        };
        self.items(key)?.into_iter().map(pair).collect()
    }

    /// The run that is meant: new clients send `run_id`, old ones `run_uuid`.
    pub(crate) fn run_id(&self) -> Result<&str, Refusal> {
        match self.text("run_id")?.filter(|id| !id.is_empty()) {
            Some(id) => Ok(id),
            None => self.text("run_uuid")?.filter(|id| !id.is_empty()).ok_or_else(|| self.absent("run_id")),
        }
    }
}

fn bad_query() -> Refusal {
    Refusal::new(Code::BadRequest, "the query cannot be read")
}

fn has_zero_byte(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_zero_byte),
        Value::Object(members) => {
            members.iter().any(|(key, value)| key.contains('\0') || has_zero_byte(value))
        }
        _ => false,
    }
}

/// What Python would call it, because the hint is for people who write Python.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_for_a_name_is_refused_in_mlflows_words() {
        let input = Input::from_json(br#"{"name": 123}"#).unwrap();
        let refusal = input.required("name").unwrap_err();
        assert!(
            refusal.message.starts_with("Invalid value 123 for parameter 'name' supplied"),
            "{}",
            refusal.message
        );
    }

    #[test]
    fn a_missing_name_is_refused_in_mlflows_words() {
        let refusal = Input::from_json(b"").unwrap().required("name").unwrap_err();
        assert!(
            refusal.message.starts_with("Missing value for required parameter 'name'."),
            "{}",
            refusal.message
        );
    }

    #[test]
    fn json_inside_a_json_string_is_read() {
        let input = Input::from_json(br#""{\"name\": \"a\"}""#).unwrap();
        assert_eq!(input.required("name"), Ok("a"));
    }

    #[test]
    fn a_repeated_query_key_is_a_list_and_a_single_one_is_a_list_of_one() {
        let input = Input::from_query("stages=Production&stages=Staging&one=a+b").unwrap();
        assert_eq!(input.texts("stages").unwrap(), ["Production", "Staging"]);
        assert_eq!(input.texts("one").unwrap(), ["a b"]);
    }

    #[test]
    fn a_whole_number_may_come_as_digits() {
        let input = Input::from_json(br#"{"a": "7", "b": 7, "c": 7.5}"#).unwrap();
        assert_eq!((input.whole("a"), input.whole("b")), (Ok(Some(7)), Ok(Some(7))));
        assert!(input.whole("c").is_err());
    }

    #[test]
    fn a_zero_byte_is_refused_wherever_it_hides() {
        assert!(Input::from_json(br#"{"tags": [{"key": "a\u0000b"}]}"#).is_err());
        assert!(Input::from_query("name=a%00b").is_err());
    }
}
