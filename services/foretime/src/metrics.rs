//! What the services measure, told as they make it: nothing is listed twice.

use service_kit::metrics::{Metering, Metrics};

/// Every metric that the services expose at `/metrics`, as a page of Markdown.
pub fn document() -> String {
    let metering = Metering::default();
    Metrics::made(&metering);
    feature_store::make_metrics(&metering);
    gpt_worker::make_metrics(&metering);
    monitor::make_metrics(&metering);
    registry::make_metrics(&metering);
    format!(
        "# Metrics\n\nWhat the services expose at `/metrics`, each what it measures itself. `foretime metrics` writes this page. The \
         unit `1` is a number without one.\n\n{}",
        metering.table()
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_beside_the_boards_says_what_the_program_says() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dashboards/METRICS.md");
        let page = std::fs::read_to_string(file).unwrap();
        let now = super::document();
        assert!(page == now, "run `foretime metrics > dashboards/METRICS.md`; it says now:\n{now}");
    }
}
