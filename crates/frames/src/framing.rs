//! What an Arrow IPC stream claims about its own sizes, checked before anything believes it.
//!
//! The reader allocates what a message says it holds. A stream from outside may say anything, and an allocation that cannot
//! be had ends the process; so every length is compared with the bytes that are there, and what a compressed buffer would
//! unfold to with a bound. A stream must also have the mark of its end that every writer sets: without it nobody can tell
//! whether batches are missing.

use arrow::ipc::{MessageHeader, RecordBatch, root_as_message};

use crate::Error;

/// What all compressed buffers of a stream may unfold to, in bytes.
const MAX_UNFOLDED: u64 = 2 << 30;

const CONTINUATION: [u8; 4] = [0xff; 4];

/// Refuses a stream whose messages claim more than the stream holds.
///
/// # Errors
/// [`Error::Unreadable`] says at which byte.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Error> {
    let mut at = 0;
    let mut unfolded = 0;
    while at < bytes.len() {
        let refused = |why: &str| Error::unreadable("Arrow IPC stream", format!("{why}, at byte {at}"));
        let rest = &bytes[at..];
        let (length, header) = match rest {
            [0xff, 0xff, 0xff, 0xff, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]), 8),
            [a, b, c, d, ..] if [*a, *b, *c, *d] != CONTINUATION => (u32::from_le_bytes([*a, *b, *c, *d]), 4),
            _ => return Err(refused("it is cut short")),
        };
        if length == 0 {
            return Ok(()); // the end that a writer marks
        }
        let body_at = header + length as usize;
        let metadata = rest.get(header..body_at).ok_or_else(|| refused("it is cut short"))?;
        let message = root_as_message(metadata).map_err(|error| refused(&error.to_string()))?;
        let body_length =
            usize::try_from(message.bodyLength()).map_err(|_| refused("a length is negative"))?;
        let body = rest.get(body_at..).and_then(|rest| rest.get(..body_length));
        let body = body.ok_or_else(|| refused("it is cut short"))?;
        let batch = match message.header_type() {
            MessageHeader::RecordBatch => message.header_as_record_batch(),
            MessageHeader::DictionaryBatch => {
                message.header_as_dictionary_batch().and_then(|batch| batch.data())
            }
            _ => None,
        };
        if let Some(batch) = batch {
            unfolded += buffers(batch, body).ok_or_else(|| refused("a buffer lies outside its message"))?;
        }
        if unfolded > MAX_UNFOLDED {
            return Err(refused("its compressed buffers unfold to more than 2 GiB"));
        }
        at += body_at + body_length;
    }
    Err(Error::unreadable("Arrow IPC stream", "it lacks the mark of its end, so it may be cut short"))
}

/// What the buffers of a batch unfold to; `None` if one lies outside the body.
fn buffers(batch: RecordBatch<'_>, body: &[u8]) -> Option<u64> {
    let compressed = batch.compression().is_some();
    let mut unfolded = 0u64;
    for buffer in batch.buffers()? {
        let start = usize::try_from(buffer.offset()).ok()?;
        let length = usize::try_from(buffer.length()).ok()?;
        let held = body.get(start..start.checked_add(length)?)?;
        let claimed = match held.first_chunk::<8>() {
            Some(claimed) if compressed => i64::from_le_bytes(*claimed).max(0).cast_unsigned(), // -1: not compressed
            _ => length as u64,
        };
        unfolded = unfolded.saturating_add(claimed);
    }
    Some(unfolded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::wire::{read_stream, write_stream};
    use crate::{Frame, Values};

    fn stream() -> Vec<u8> {
        let frame = Frame::new(
            3,
            vec![
                ("n".into(), Values::Number(vec![1.5, 2.5, f64::NAN])),
                ("s".into(), Values::text([Some("UA"), None, Some("")])),
            ],
        );
        write_stream(&frame).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_stream_with_altered_bytes_is_read_or_refused_and_never_ends_the_process(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut bytes = stream();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = read_stream(&bytes);
        }

        #[test]
        fn a_stream_that_is_cut_short_is_refused(length: prop::sample::Index) {
            let whole = stream();
            let end = whole.len() - 8; // the last eight bytes only mark the end
            prop_assert!(read_stream(&whole[..length.index(end)]).is_err());
        }
    }
}
