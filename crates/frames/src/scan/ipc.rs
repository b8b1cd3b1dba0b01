//! Arrow IPC files, batch by batch.
//!
//! The reader makes room for whatever a file claims to hold, and room that cannot be had ends the process. So the footer's
//! blocks are compared with the file's size first, and what compressed buffers claim to unfold to with a bound.

use std::io::BufReader;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
use arrow::ipc::{Block, Message, RecordBatch, root_as_footer, root_as_message};

use super::{BATCH, Each, projection, reordered};
use crate::Error;
use crate::place::Bytes;

/// What the compressed buffers of one batch may unfold to, in bytes.
const MAX_UNFOLDED: u64 = 2 << 30;
/// The footer's length and the magic word at the end of a file.
const TRAILER: u64 = 10;

/// An open Arrow IPC file.
#[derive(Debug)]
pub(super) struct File {
    bytes: Bytes,
    schema: SchemaRef,
}

fn unreadable(error: ArrowError) -> Error {
    Error::unreadable("Arrow file", error)
}

fn broken(why: &str) -> Error {
    Error::unreadable("Arrow file", why)
}

impl File {
    pub(super) fn open(bytes: Bytes) -> Result<Self, Error> {
        check(&bytes)?;
        let schema = FileReader::try_new(BufReader::new(bytes.reader()), None).map_err(unreadable)?.schema();
        Ok(Self { bytes, schema })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    pub(super) fn read(&self, columns: &[&str], each: &mut Each<'_>) -> Result<(), Error> {
        let (places, order) = projection(&self.schema, columns)?;
        let reader =
            FileReader::try_new(BufReader::new(self.bytes.reader()), Some(places)).map_err(unreadable)?;
        for batch in reader {
            let batch = reordered(&batch.map_err(unreadable)?, &order)?;
            for start in (0..batch.num_rows()).step_by(BATCH) {
                each(batch.slice(start, BATCH.min(batch.num_rows() - start)))?;
            }
        }
        Ok(())
    }
}

/// Refuses a file whose footer or messages claim more than there is.
fn check(bytes: &Bytes) -> Result<(), Error> {
    let end = bytes.size().checked_sub(TRAILER).ok_or_else(|| broken("it is cut short"))?;
    let trailer = bytes.slice(end, 4)?;
    let length = trailer.first_chunk::<4>().map_or(0, |length| i32::from_le_bytes(*length));
    let length = u64::try_from(length).ok().filter(|length| *length <= end);
    let length = length.ok_or_else(|| broken("its footer is longer than the file"))?;
    let footer = bytes.slice(end - length, length as usize)?;
    let footer = root_as_footer(&footer).map_err(|error| broken(&error.to_string()))?;
    let blocks = footer.recordBatches().into_iter().chain(footer.dictionaries()).flatten();
    blocks.into_iter().try_for_each(|block| check_block(bytes, block))
}

fn check_block(bytes: &Bytes, block: &Block) -> Result<(), Error> {
    let part = |length: i64| u64::try_from(length).map_err(|_| broken("a length in its footer is negative"));
    let (start, metadata, body) =
        (part(block.offset())?, part(block.metaDataLength().into())?, part(block.bodyLength())?);
    let body_at = start.checked_add(metadata);
    if body_at.and_then(|at| at.checked_add(body)).is_none_or(|end| end > bytes.size()) {
        return Err(broken("its footer promises more than the file holds"));
    }
    let message = bytes.slice(start, metadata as usize)?;
    let message = message.strip_prefix(&[0xff; 4]).and_then(|rest| rest.get(4..)).unwrap_or_default();
    let message = root_as_message(message).map_err(|error| broken(&error.to_string()))?;
    let batch = batch_of(&message).ok_or_else(|| broken("a message holds no rows"))?;
    let unfolded = unfolded(bytes, batch, (start + metadata, body))?;
    if unfolded > MAX_UNFOLDED {
        return Err(broken("a batch of it unfolds to more than 2 GiB; write smaller batches"));
    }
    Ok(())
}

fn batch_of<'a>(message: &Message<'a>) -> Option<RecordBatch<'a>> {
    let dictionary = || message.header_as_dictionary_batch().and_then(|batch| batch.data());
    message.header_as_record_batch().or_else(dictionary)
}

/// What the buffers of a batch unfold to. A compressed one begins with its length, or −1 if it is not compressed after all.
fn unfolded(bytes: &Bytes, batch: RecordBatch<'_>, body: (u64, u64)) -> Result<u64, Error> {
    let mut sum = 0u64;
    for buffer in batch.buffers().into_iter().flatten() {
        let ends = u64::try_from(buffer.offset()).ok().zip(u64::try_from(buffer.length()).ok());
        let inside =
            ends.filter(|(start, length)| start.checked_add(*length).is_some_and(|end| end <= body.1));
        let (start, length) = inside.ok_or_else(|| broken("a buffer lies outside its message"))?;
        let claimed = if batch.compression().is_some() && length >= 8 {
            let prefix = bytes.slice(body.0 + start, 8)?;
            prefix.first_chunk::<8>().map_or(0, |claimed| i64::from_le_bytes(*claimed).max(0).cast_unsigned())
        } else {
            length
        };
        sum = sum.saturating_add(claimed);
    }
    Ok(sum)
}
