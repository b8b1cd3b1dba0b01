//! MLflow's filter language: `clause (AND clause)*` with `[entity.]key comparator value`, and `entity.key [ASC|DESC]`.
//!
//! Text in, typed conditions out. What a search may name stands in its [`Shape`].

use storage::search::{Comparison, Condition, DatasetField, Kind, Order, Shape, Subject, Test};

use super::refusal::Refusal;

/// Reads a filter; an empty one has no conditions.
pub(crate) fn filter(shape: &Shape, text: &str) -> Result<Vec<Condition>, Refusal> {
    let mut reader = Reader { rest: text.trim(), whole: text };
    if reader.rest.is_empty() && !text.is_empty() {
        return Err(Refusal::invalid(format!("Invalid filter '{text}'. Could not be parsed.")));
    }
    let mut conditions = Vec::new();
    while !reader.rest.is_empty() {
        if !conditions.is_empty() && !reader.keyword("AND") {
            return Err(reader.invalid_clause());
        }
        conditions.push(reader.condition(shape)?);
    }
    Ok(conditions)
}

/// Reads the keys of an order.
pub(crate) fn order_by(shape: &Shape, clauses: &[String]) -> Result<Vec<Order>, Refusal> {
    let mut orders: Vec<Order> = Vec::new();
    for clause in clauses {
        let order = order(shape, clause)?;
        if orders.iter().any(|known| known.subject == order.subject) {
            return Err(Refusal::invalid(format!("`order_by` contains duplicate fields: {clauses:?}")));
        }
        orders.push(order);
    }
    Ok(orders)
}

fn order(shape: &Shape, clause: &str) -> Result<Order, Refusal> {
    let unreadable = || Refusal::invalid(format!("Invalid order_by clause '{clause}'. Could not be parsed."));
    let mut reader = Reader { rest: clause.trim(), whole: clause };
    let subject = subject(shape, &reader.identifier().ok_or_else(unreadable)?)?;
    if matches!(subject, Subject::Dataset(_)) {
        return Err(Refusal::invalid(format!("Invalid order_by entity: {clause}")));
    }
    let ascending = match reader.rest.to_ascii_lowercase().as_str() {
        "" | "asc" => true,
        "desc" => false,
        _ => return Err(Refusal::invalid(format!("Invalid ordering key in order_by clause '{clause}'."))),
    };
    Ok(Order { subject, ascending, dataset: None })
}

/// What `[entity.]key` means, and nothing after it.
pub(crate) fn subject_of(shape: &Shape, text: &str) -> Result<Subject, Refusal> {
    let mut reader = Reader { rest: text.trim(), whole: text };
    let identifier = reader.identifier().filter(|_| reader.rest.is_empty());
    subject(shape, &identifier.ok_or_else(|| Refusal::invalid(format!("Invalid field name: {text}")))?)
}

/// What `[entity.]key` means.
fn subject(shape: &Shape, (entity, key): &(Option<String>, String)) -> Result<Subject, Refusal> {
    let measured = shape.has_measurements();
    match entity.as_deref() {
        None | Some("attribute" | "attributes" | "attr" | "run") => attribute(shape, key),
        Some("tag" | "tags") => Ok(Subject::Tag(key.clone())),
        Some("metric" | "metrics") if measured => Ok(Subject::Metric(key.clone())),
        Some("param" | "params" | "parameter" | "parameters") if measured => Ok(Subject::Param(key.clone())),
        Some("dataset" | "datasets") if shape.has_datasets() => dataset(key),
        Some(other) => Err(Refusal::invalid(format!(
            "Invalid entity type '{other}'. Valid values are ['metric', 'parameter', 'tag', 'attribute', 'dataset']"
        ))),
    }
}

fn attribute(shape: &Shape, key: &str) -> Result<Subject, Refusal> {
    shape.attribute(key).map(Subject::Attribute).ok_or_else(|| {
        let known: Vec<&str> = shape.attributes.iter().map(|attribute| attribute.name).collect();
        Refusal::invalid(format!("Invalid attribute key '{key}' specified. Valid keys are {known:?}"))
    })
}

fn dataset(key: &str) -> Result<Subject, Refusal> {
    match key {
        "name" => Ok(Subject::Dataset(DatasetField::Name)),
        "digest" => Ok(Subject::Dataset(DatasetField::Digest)),
        "context" => Ok(Subject::Dataset(DatasetField::Context)),
        _ => Err(Refusal::invalid(format!(
            "Invalid dataset key '{key}' specified. Valid keys are ['name', 'digest', 'context']"
        ))),
    }
}

/// What a comparison may be made with.
#[derive(Debug, PartialEq)]
enum Literal {
    Number(f64),
    Text(String),
    List(Vec<String>),
}

struct Reader<'a> {
    rest: &'a str,
    whole: &'a str,
}

impl Reader<'_> {
    fn invalid_clause(&self) -> Refusal {
        Refusal::invalid(format!("Invalid clause(s) in filter string: '{}' (in '{}')", self.rest, self.whole))
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest[bytes..].trim_start();
    }

    /// A word, whatever its case, that ends where a word ends.
    fn keyword(&mut self, word: &str) -> bool {
        let Some((start, rest)) = self.rest.split_at_checked(word.len()) else { return false };
        let found =
            start.eq_ignore_ascii_case(word) && !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if found {
            self.skip(word.len());
        }
        found
    }

    fn condition(&mut self, shape: &Shape) -> Result<Condition, Refusal> {
        let identifier = self.identifier().ok_or_else(|| self.invalid_clause())?;
        let subject = subject(shape, &identifier)?;
        if self.keyword("IS") {
            let test = if self.keyword("NOT") { Test::Present } else { Test::Absent };
            if !self.keyword("NULL") {
                return Err(self.invalid_clause());
            }
            return match subject {
                Subject::Tag(_) | Subject::Param(_) => Ok(Condition { subject, test }),
                _ => Err(Refusal::invalid(format!(
                    "IS NULL / IS NOT NULL is only supported for tags and params, not for '{}'",
                    identifier.1
                ))),
            };
        }
        let comparator = self.comparator().ok_or_else(|| self.invalid_clause())?;
        let value = self.literal().ok_or_else(|| self.invalid_clause())??;
        let test = test(&subject, &identifier.1, comparator, value)?;
        Ok(Condition { subject, test })
    }

    /// `entity.key` or `key`, each of them quoted or not. Keys may hold dots.
    fn identifier(&mut self) -> Option<(Option<String>, String)> {
        let (first, after_first) = name(self.rest, true)?;
        let (entity, key, after) = match after_first.strip_prefix('.') {
            Some(rest) => {
                let (key, after) = name(rest, false)?;
                (Some(first), key, after)
            }
            None => (None, first, after_first),
        };
        self.rest = after.trim_start();
        Some((entity, key))
    }

    fn comparator(&mut self) -> Option<&'static str> {
        for sign in ["!=", ">=", "<=", "=", ">", "<"] {
            if self.rest.starts_with(sign) {
                self.skip(sign.len());
                return Some(sign);
            }
        }
        if self.keyword("NOT") {
            return self.keyword("IN").then_some("NOT IN");
        }
        ["LIKE", "ILIKE", "IN"].into_iter().find(|word| self.keyword(word))
    }

    /// `None` if nothing of the kind is there; an error if it begins like a value and is none.
    fn literal(&mut self) -> Option<Result<Literal, Refusal>> {
        let first = self.rest.chars().next()?;
        match first {
            '\'' | '"' => self.quoted().map(|text| Ok(Literal::Text(text))),
            '(' => self.list().map(|list| Ok(Literal::List(list))),
            _ => {
                let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
                let word = &self.rest[..end];
                let number = word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
                let Some(number) = word.parse().ok().filter(|_| number) else {
                    return Some(Err(Refusal::invalid(format!(
                        "Parameter value is either not quoted or unidentified quote types used for string value {word}. \
                         Use either single or double quotes."
                    ))));
                };
                self.skip(end);
                Some(Ok(Literal::Number(number)))
            }
        }
    }

    /// A quoted text; the quote itself is written twice inside.
    fn quoted(&mut self) -> Option<String> {
        let quote = self.rest.chars().next()?;
        let mut text = String::new();
        let mut characters = self.rest.char_indices().skip(1).peekable();
        while let Some((position, character)) = characters.next() {
            if character != quote {
                text.push(character);
            } else if characters.next_if(|(_, next)| *next == quote).is_some() {
                text.push(quote);
            } else {
                self.skip(position + 1);
                return Some(text);
            }
        }
        None
    }

    fn list(&mut self) -> Option<Vec<String>> {
        self.skip(1);
        let mut values = Vec::new();
        loop {
            if !self.rest.starts_with(['\'', '"']) {
                return None;
            }
            values.push(self.quoted()?);
            let next = self.rest.chars().next()?;
            self.skip(next.len_utf8());
            match next {
                ',' => {}
                ')' => return Some(values),
                _ => return None,
            }
        }
    }
}

/// A name at the beginning of a text, and what follows it. An entity ends at a dot, a key does not.
fn name(text: &str, ends_at_dot: bool) -> Option<(String, &str)> {
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '`' | '"')) {
        let (name, after) = text[1..].split_once(quote)?;
        return (!name.is_empty()).then(|| (name.to_owned(), after));
    }
    let is_end = |c: char| c.is_whitespace() || "=!<>()'\"`,".contains(c) || (ends_at_dot && c == '.');
    let (name, after) = text.split_at(text.find(is_end).unwrap_or(text.len()));
    (!name.is_empty()).then(|| (name.to_owned(), after))
}

/// The test, if the subject can be compared so.
fn test(subject: &Subject, key: &str, comparator: &str, value: Literal) -> Result<Test, Refusal> {
    let is_number = match subject {
        Subject::Metric(_) => true,
        Subject::Attribute(attribute) if !attribute.filters => {
            return Err(Refusal::invalid(format!(
                "Invalid attribute key '{key}' specified: it can only order"
            )));
        }
        Subject::Attribute(attribute) => attribute.kind == Kind::Number,
        _ => false,
    };
    match (is_number, subject) {
        (true, Subject::Attribute(_)) => whole_test(key, comparator, &value),
        (true, _) => number_test(key, comparator, &value),
        (false, _) => text_test(subject, key, comparator, value),
    }
}

fn whole_test(key: &str, comparator: &str, value: &Literal) -> Result<Test, Refusal> {
    match number_test(key, comparator, value)? {
        Test::Number(comparison, number) if number.fract() == 0.0 && number.abs() < 9e18 => {
            Ok(Test::Whole(comparison, number as i64))
        }
        Test::Number(_, number) => {
            Err(Refusal::invalid(format!("Invalid value for numeric attribute '{key}': '{number}'")))
        }
        other => Ok(other),
    }
}

fn number_test(key: &str, comparator: &str, value: &Literal) -> Result<Test, Refusal> {
    let comparison = match comparator {
        "=" => Comparison::Equal,
        "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        other => return Err(wrong_comparator(other, "{'>', '>=', '!=', '=', '<', '<='}")),
    };
    match value {
        Literal::Number(number) => Ok(Test::Number(comparison, *number)),
        Literal::Text(_) | Literal::List(_) => Err(Refusal::invalid(format!(
            "Expected numeric value type for metric or numeric attribute: {key}"
        ))),
    }
}

fn text_test(subject: &Subject, key: &str, comparator: &str, value: Literal) -> Result<Test, Refusal> {
    let takes_list = match subject {
        Subject::Attribute(attribute) => attribute.kind == Kind::ListedText,
        Subject::Dataset(_) | Subject::Tag(_) | Subject::Param(_) => true,
        Subject::Metric(_) => false,
    };
    let comparison = match comparator {
        "=" => Comparison::Equal,
        "!=" => Comparison::NotEqual,
        "LIKE" => Comparison::Like,
        "ILIKE" => Comparison::ILike,
        "IN" | "NOT IN" if takes_list => {
            return match value {
                Literal::List(values) if comparator == "IN" => Ok(Test::OneOf(values)),
                Literal::List(values) => Ok(Test::NoneOf(values)),
                _ => Err(Refusal::invalid(format!("Expected a list of quoted string values for '{key}'"))),
            };
        }
        other => return Err(wrong_comparator(other, "{'!=', '=', 'LIKE', 'ILIKE'}")),
    };
    match value {
        Literal::Text(text) => Ok(Test::Text(comparison, text)),
        Literal::Number(number) => Err(Refusal::invalid(format!(
            "Expected a quoted string value for '{key}' (e.g. 'my-value'). Got value {number}"
        ))),
        Literal::List(_) => Err(Refusal::invalid(format!(
            "Only ['run_id', 'name', 'experiment_id'] attributes support comparison with a list of quoted string values, \
             not '{key}'."
        ))),
    }
}

fn wrong_comparator(comparator: &str, known: &str) -> Refusal {
    Refusal::invalid(format!("Invalid comparator '{comparator}' not one of '{known}'"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use storage::search::{EXPERIMENTS, MODELS, RUNS};

    use super::*;

    fn one(text: &str) -> Condition {
        let mut conditions =
            filter(&RUNS, text).unwrap_or_else(|refusal| panic!("{text}: {}", refusal.message));
        assert_eq!(conditions.len(), 1, "{text}");
        conditions.remove(0)
    }

    #[test]
    fn clauses_joined_by_and_are_all_read() {
        let conditions =
            filter(&RUNS, "metrics.loss < 1 and params.lr = '0.1' AND tag.team LIKE 'a%'").unwrap();
        assert_eq!(conditions.len(), 3);
        let expected =
            Condition { subject: Subject::Metric("loss".into()), test: Test::Number(Comparison::Less, 1.0) };
        assert_eq!(conditions[0], expected);
    }

    #[test]
    fn a_key_may_be_quoted_and_hold_spaces_dots_and_signs() {
        for text in ["metrics.`val loss.top-1` >= -1.5e3", "metric.\"val loss.top-1\">=-1.5e3"] {
            assert_eq!(one(text).subject, Subject::Metric("val loss.top-1".into()), "{text}");
        }
        assert_eq!(one("tags.mlflow.runName = \"x\"").subject, Subject::Tag("mlflow.runName".into()));
    }

    #[test]
    fn a_quote_is_written_twice_inside_a_text() {
        assert_eq!(one("params.a='it''s'").test, Test::Text(Comparison::Equal, "it's".into()));
    }

    #[test]
    fn and_inside_a_text_or_a_name_does_not_end_a_clause() {
        assert_eq!(one("params.a = 'x AND y'").test, Test::Text(Comparison::Equal, "x AND y".into()));
        assert_eq!(one("params.android = 'x'").subject, Subject::Param("android".into()));
    }

    #[test]
    fn null_lists_and_datasets_are_read() {
        assert_eq!(one("tags.a IS NULL").test, Test::Absent);
        assert_eq!(one("params.`a b` is not null").test, Test::Present);
        assert_eq!(one("run_id IN ('a', \"b\")").test, Test::OneOf(vec!["a".into(), "b".into()]));
        assert_eq!(one("attributes.run_id not in ('a')").test, Test::NoneOf(vec!["a".into()]));
        assert_eq!(one("datasets.context = 'train'").subject, Subject::Dataset(DatasetField::Context));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_message() {
        for text in [
            "metrics.loss < 'a'",
            "params.lr = 1",
            "params.lr > '1'",
            "metrics.loss LIKE 'a'",
            "metrics.loss < 1 OR params.a = 'b'",
            "(metrics.loss < 1)",
            "metrics.loss",
            "metrics.loss <",
            "metrics.loss < 1 AND",
            "metrics. < 1",
            "nonsense.x = 'y'",
            "attributes.nope = 'y'",
            "status IN ('a')",
            "run_id IN ()",
            "run_id IN ('a',)",
            "params.a = 'x",
            "params.a = x",
            "metrics.loss IS NULL",
            "datasets.size = 'x'",
            "'",
            "metrics.`loss < 1",
            "AND",
        ] {
            assert!(filter(&RUNS, text).is_err(), "{text}");
        }
        assert!(filter(&EXPERIMENTS, "metrics.loss < 1").is_err());
        assert!(filter(&MODELS, "creation_timestamp > 1").is_err());
    }

    #[test]
    fn an_order_has_a_direction_and_no_key_twice() {
        let orders = order_by(&RUNS, &["metrics.`a b` DESC".into(), "start_time".into()]).unwrap();
        assert_eq!((orders[0].ascending, orders[1].ascending), (false, true));
        for bad in ["metrics.a sideways", "", "dataset.name", "nope"] {
            assert!(order_by(&RUNS, &[bad.to_owned()]).is_err(), "{bad}");
        }
        assert!(order_by(&RUNS, &["metrics.a".into(), "metrics.a DESC".into()]).is_err());
    }

    /// A condition on runs that a filter can say.
    fn any_condition() -> impl Strategy<Value = Condition> {
        let key = "[^`\\x00]{1,12}";
        let text = "[^\\x00]{0,12}";
        let text_test = prop_oneof![
            text.prop_map(|value| Test::Text(Comparison::Equal, value)),
            text.prop_map(|value| Test::Text(Comparison::NotEqual, value)),
            text.prop_map(|value| Test::Text(Comparison::ILike, value)),
            proptest::collection::vec(text, 1..4).prop_map(Test::OneOf),
            proptest::collection::vec(text, 1..4).prop_map(Test::NoneOf),
            Just(Test::Present),
            Just(Test::Absent),
        ];
        let number = prop::num::f64::NORMAL | prop::num::f64::ZERO;
        prop_oneof![
            (key, text_test.clone()).prop_map(|(key, test)| Condition { subject: Subject::Tag(key), test }),
            (key, text_test).prop_map(|(key, test)| Condition { subject: Subject::Param(key), test }),
            (key, number).prop_map(|(key, value)| Condition {
                subject: Subject::Metric(key),
                test: Test::Number(Comparison::LessOrEqual, value),
            }),
            (-1_000_000i64..1_000_000).prop_map(|value| Condition {
                subject: Subject::Attribute(RUNS.attribute("end_time").unwrap()),
                test: Test::Whole(Comparison::Greater, value),
            }),
        ]
    }

    /// The words of a condition.
    fn printed(condition: &Condition) -> String {
        let subject = match &condition.subject {
            Subject::Tag(key) => format!("tags.`{key}`"),
            Subject::Param(key) => format!("params.`{key}`"),
            Subject::Metric(key) => format!("metrics.`{key}`"),
            Subject::Attribute(attribute) => attribute.name.to_owned(),
            Subject::Dataset(_) => unreachable!("none is made above"),
        };
        let quoted = |text: &String| format!("'{}'", text.replace('\'', "''"));
        let list =
            |texts: &[String]| format!("({})", texts.iter().map(quoted).collect::<Vec<_>>().join(", "));
        match &condition.test {
            Test::Text(Comparison::Equal, text) => format!("{subject} = {}", quoted(text)),
            Test::Text(Comparison::NotEqual, text) => format!("{subject} != {}", quoted(text)),
            Test::Text(_, text) => format!("{subject} ILIKE {}", quoted(text)),
            Test::OneOf(texts) => format!("{subject} IN {}", list(texts)),
            Test::NoneOf(texts) => format!("{subject} NOT IN {}", list(texts)),
            Test::Present => format!("{subject} IS NOT NULL"),
            Test::Absent | Test::Lacks(_) => format!("{subject} IS NULL"),
            Test::Number(_, number) => format!("{subject} <= {number:?}"),
            Test::Whole(_, number) => format!("{subject} > {number}"),
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
            let _ = filter(&RUNS, &text);
            let _ = order_by(&RUNS, &[text]);
        }

        #[test]
        fn nothing_close_to_a_filter_makes_the_parser_panic(
            words in proptest::collection::vec(
                prop::sample::select(vec![
                    "metrics.", "params.", "tags.", "a", "`", "'", "\"", "=", "!", "<", ">", " ", "AND", "IN", "NOT", "IS",
                    "NULL", "LIKE", "(", ")", ",", "1", "-", ".", "é", "run_id", "datasets.name",
                ]),
                0..24,
            )
        ) {
            let _ = filter(&RUNS, &words.concat());
        }

        #[test]
        fn a_filter_that_is_read_printed_and_read_again_is_the_same(
            conditions in proptest::collection::vec(any_condition(), 1..5)
        ) {
            let printed = conditions.iter().map(printed).collect::<Vec<_>>().join(" AND ");
            let read = filter(&RUNS, &printed);
            prop_assert_eq!(read.as_ref().map_err(|refusal| refusal.message.as_str()), Ok(&conditions), "{}", printed);
            let again = read.unwrap().iter().map(self::printed).collect::<Vec<_>>().join(" AND ");
            prop_assert_eq!(again, printed);
        }

        #[test]
        fn a_text_reads_back_as_it_was_quoted(value in "[^\\x00]{0,20}", key in "[a-zA-Z][a-zA-Z0-9_.]{0,10}") {
            let text = format!("params.{key} = '{}'", value.replace('\'', "''"));
            prop_assert_eq!(one(&text).test, Test::Text(Comparison::Equal, value));
        }
    }
}
