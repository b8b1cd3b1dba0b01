//! Shifts that come and go in a whole model: which column is named, how many messages there are, and how soon it is over.

use crate::draws::Dice;
use crate::model::{Month, Watched, Watcher, watch};
use crate::power::Kind;
use crate::world::{Law, Shift, laws};

/// Hours of calm before, of the shift, and after it.
const BEFORE: usize = 24;
const LASTS: usize = 72;
const AFTER: usize = 72;

/// What came of the episodes of a kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) episodes: usize,
    pub(crate) seen: usize,
    /// Shares among those seen.
    pub(crate) first: f64,
    pub(crate) among_three: f64,
    pub(crate) messages: f64,
    /// Hours from the shift's end to the incident's, the median.
    pub(crate) over_after: Option<usize>,
    /// Hours from the shift's beginning to the incident's, the median.
    pub(crate) delay: Option<usize>,
}

/// The column that a kind of shift happens to.
fn place(kind: &Kind) -> usize {
    let wanted = match &kind.law {
        Law::Numbers { .. } => "numbers",
        Law::Outcomes => "outcomes",
        Law::Levels(shares) if shares.len() == 2 => "two levels",
        Law::Levels(_) => "five levels",
    };
    laws().iter().position(|(name, _)| *name == wanted).expect("the model has such a column")
}

/// `watchers` makes the one that looks at the model of a number.
pub(crate) fn told(
    kind: &Kind,
    mean: u64,
    runs: usize,
    models: &mut [Vec<Watched>],
    watchers: &dyn Fn(usize) -> Box<dyn Watcher>,
    dice: &mut Dice,
) -> Told {
    let (hit, shift) = (place(kind), kind.shifts[kind.asked.unwrap_or(1)]);
    let at = |place: usize, hour: usize| {
        let on = place == hit && (BEFORE..BEFORE + LASTS).contains(&hour);
        if on { shift } else { Shift::default() }
    };
    let mut told = Told { episodes: runs, ..Told::default() };
    let (mut over, mut delays) = (vec![], vec![]);
    for run in 0..runs {
        let model = run % models.len();
        let hours = BEFORE + LASTS + AFTER;
        let month = watch(&mut models[model], hours, mean, &at, watchers(model).as_mut(), dice);
        if let Some(hour) = month.opened.iter().find(|hour| (BEFORE..BEFORE + LASTS).contains(*hour)) {
            told.seen += 1;
            delays.push(hour + 1 - BEFORE);
            count(&mut told, &month, hit);
            over.extend(
                month
                    .closed
                    .iter()
                    .rev()
                    .find(|hour| **hour >= BEFORE + LASTS)
                    .map(|hour| hour - BEFORE - LASTS + 1),
            );
        }
    }
    let seen = told.seen.max(1) as f64;
    (told.first, told.among_three, told.messages) =
        (told.first / seen, told.among_three / seen, told.messages / seen);
    (told.over_after, told.delay) = (median(over), median(delays));
    told
}

fn median(mut hours: Vec<usize>) -> Option<usize> {
    hours.sort_unstable();
    hours.get(hours.len() / 2).copied()
}

fn count(told: &mut Told, month: &Month, hit: usize) {
    told.first += f64::from(u8::from(month.ranking.first() == Some(&hit)));
    told.among_three += f64::from(u8::from(month.ranking.iter().take(3).any(|place| *place == hit)));
    told.messages += (month.opened.len() + month.closed.len()) as f64;
}
