//! Guessing what was meant by a misspelt word.

/// ` (did you mean `x`?)`, or the list of `known` words if none is near.
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let nearest = known.iter().map(|word| (distance(written, word), *word)).min();
    match nearest {
        Some((edits, word)) if edits <= 1 + written.chars().count() / 4 => {
            format!("; did you mean `{word}`?")
        }
        Some(_) => format!("; there are: {}", known.join(", ")),
        None => "; there are none".to_owned(),
    }
}

/// The least number of insertions, deletions and substitutions between two words, and swaps of neighbours
/// (Damerau–Levenshtein, optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let swapped = if swap { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                (rows[i - 1][j] + 1)
                    .min(rows[i][j - 1] + 1)
                    .min(rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]))
                    .min(swapped)
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_lists_the_choices() {
        assert_eq!(did_you_mean("orgin", ["origin", "dest"]), "; did you mean `origin`?");
        assert_eq!(did_you_mean("weather", ["origin", "dest"]), "; there are: origin, dest");
        assert_eq!(did_you_mean("ab", []), "; there are none");
    }

    #[test]
    fn swapped_neighbours_are_one_edit() {
        assert_eq!(distance("veiw", "view"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
