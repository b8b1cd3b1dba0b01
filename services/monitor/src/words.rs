//! Numbers in the words of summaries and messages.

/// `0.410 [0.330, 0.470]`, with only one bound `0.064 (at least 0.052)`; and the two sides if there are some.
pub(crate) fn size(
    effect: f64,
    bounds: (Option<f64>, Option<f64>),
    now_and_before: Option<(f64, f64)>,
) -> String {
    let bounds = match bounds {
        (Some(low), Some(high)) => format!(" [{low:.3}, {high:.3}]"),
        (Some(low), None) => format!(" (at least {low:.3})"),
        (None, Some(high)) => format!(" (at most {high:.3})"),
        (None, None) => String::new(),
    };
    let sides = now_and_before.map(|(now, before)| format!(" ({now:.3} against {before:.3})"));
    format!("{effect:.3}{bounds}{}", sides.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_is_not_there_is_not_shown() {
        assert_eq!(
            size(0.41, (Some(0.33), Some(0.47)), Some((0.6, 0.2))),
            "0.410 [0.330, 0.470] (0.600 against 0.200)"
        );
        assert_eq!(size(0.064, (Some(0.052), None), None), "0.064 (at least 0.052)");
        assert_eq!(size(-0.02, (None, Some(-0.01)), None), "-0.020 (at most -0.010)");
        assert_eq!(size(0.5, (None, None), None), "0.500");
    }
}
