//! Blanking rows of served predictions: what identifies the answer stays, what it was made of goes.

use domain::definitions::ValueType;

use crate::Error;
use crate::frame::Frame;
use crate::keys::Keys;
use crate::source_file::conform;

/// The columns that stay: an answer still counts for its model.
const KEPT: [&str; 3] = ["prediction_id", "cutoff", "probability"];

/// Blanks the rows of a prediction log for which `gone` holds of their encoded key and their cutoff in microseconds. `key` are the
/// columns that hold the key's parts, in the key's order. `None` if there is no such row, or the log holds no such columns.
///
/// # Errors
/// [`Error::MissingColumn`] or [`Error::WrongType`] if the file is no prediction log.
pub fn redact(
    log: &Frame,
    key: &[(String, ValueType)],
    gone: impl Fn(&[u8], i64) -> bool,
) -> Result<Option<(Frame, usize)>, Error> {
    let mut parts = Vec::with_capacity(key.len());
    for (name, kind) in key {
        let Some(values) = log.find(name) else { return Ok(None) };
        // models see integers as numbers; a column that is no key after all holds nobody's
        let Ok(part) = conform(name, values.clone(), *kind) else { return Ok(None) };
        parts.push((name.clone(), part));
    }
    let names: Vec<&String> = key.iter().map(|(name, _)| name).collect();
    let keys = Keys::of(&Frame::new(log.rows(), parts), &names)?;
    let cutoffs = log.times("cutoff")?;
    let is_gone = |row: usize| keys.get(row).is_some_and(|key| gone(key, cutoffs[row]));
    let places: Vec<u32> =
        (0..log.rows()).map(|row| if is_gone(row) { u32::MAX } else { row as u32 }).collect();
    let blanked = places.iter().filter(|place| **place == u32::MAX).count();
    if blanked == 0 {
        return Ok(None);
    }
    let columns = log.columns().iter().map(|(name, values)| {
        let kept = KEPT.contains(&name.as_str());
        (name.clone(), if kept { values.clone() } else { values.take(&places).in_order_of_appearance() })
    });
    Ok(Some((Frame::new(log.rows(), columns.collect()), blanked)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Values;

    fn log() -> Frame {
        Frame::new(
            3,
            vec![
                ("shop".into(), Values::Number(vec![7.0, 8.0, 7.0])),
                ("note".into(), Values::text([Some("seven"), Some("eight"), Some("later")])),
                ("prediction_id".into(), Values::text([Some("a"), Some("b"), Some("c")])),
                ("cutoff".into(), Values::Time(vec![1, 2, 3])),
                ("probability".into(), Values::Number(vec![0.1, 0.2, 0.3])),
            ],
        )
    }

    #[test]
    fn rows_of_the_key_up_to_the_horizon_are_blanked_but_for_what_counts_the_answer() {
        let key = [("shop".to_owned(), ValueType::Integer)];
        let seven = Keys::of(&Frame::new(1, vec![("k".into(), Values::Integer(vec![7]))]), &["k"]).unwrap();
        let gone = |key: &[u8], cutoff: i64| Some(key) == seven.get(0) && cutoff <= 2;
        let (left, blanked) = redact(&log(), &key, gone).unwrap().unwrap();
        assert_eq!(blanked, 1);
        let note = left.column("note").unwrap();
        assert_eq!([note.text_at(0), note.text_at(1), note.text_at(2)], [None, Some("eight"), Some("later")]);
        assert!(!format!("{left:?}").contains("seven"), "the text is still among the levels");
        assert!(left.column("shop").unwrap().is_null(0) && !left.column("shop").unwrap().is_null(2));
        assert_eq!(left.column("prediction_id").unwrap().text_at(0), Some("a"));
        assert_eq!(left.numbers("probability").unwrap(), [0.1, 0.2, 0.3]);
    }

    #[test]
    fn a_log_without_the_key_or_without_such_rows_is_left_alone() {
        let with =
            |name: &str| redact(&log(), &[(name.to_owned(), ValueType::Integer)], |_, _| false).unwrap();
        assert!(with("shop").is_none() && with("person").is_none() && with("note").is_none());
    }
}
