//! Sending a file, or a part of it (RFC 9110, section 14): a download that broke off goes on where it stopped, if the file is
//! still the same one, which its hash tells.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::artifacts::{Failure, Readable};

/// The part that a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// From the first up to but not including the second byte.
    Bytes(u64, u64),
    /// Nothing of the file.
    Beyond,
}

/// The file, the part of it that is asked for, or that nothing changed.
pub(super) async fn answer(file: &Readable, name: &str, asked: &HeaderMap) -> Result<Response, Failure> {
    let size = file.size_bytes;
    let tag = file.sha256.as_ref().map(|sha256| format!("\"{sha256}\""));
    let mut headers = headers_of(name, tag.as_deref());
    if is_known(asked, tag.as_deref()) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    let (status, start, end) = match part(asked, size, tag.as_deref()) {
        Part::Whole => (StatusCode::OK, 0, size),
        Part::Bytes(start, end) => (StatusCode::PARTIAL_CONTENT, start, end),
        Part::Beyond => {
            headers.insert(header::CONTENT_RANGE, text(&format!("bytes */{size}")));
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response());
        }
    };
    if status == StatusCode::PARTIAL_CONTENT {
        headers.insert(header::CONTENT_RANGE, text(&format!("bytes {start}-{}/{size}", end - 1)));
    }
    headers.insert(header::CONTENT_LENGTH, (end - start).into());
    Ok((status, headers, file.read(start, end).await?).into_response())
}

fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits and plain words are a header's value")
}

fn headers_of(name: &str, tag: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    headers.insert(header::CONTENT_DISPOSITION, disposition(name));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(tag) = tag {
        headers.insert(header::ETAG, text(tag));
    }
    headers
}

fn asked_for(asked: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    asked.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

fn is_known(asked: &HeaderMap, tag: Option<&str>) -> bool {
    match (asked_for(asked, header::IF_NONE_MATCH), tag) {
        (Some(known), Some(tag)) => known == "*" || known.split(',').any(|one| one.trim() == tag),
        _ => false,
    }
}

/// One range of bytes is understood. Of several, and of a file that has changed since, the whole is sent, as the RFC allows.
fn part(asked: &HeaderMap, size: u64, tag: Option<&str>) -> Part {
    let Some(range) = asked_for(asked, header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else {
        return Part::Whole;
    };
    if asked_for(asked, header::IF_RANGE).is_some_and(|since| Some(since) != tag) {
        return Part::Whole;
    }
    match range.split_once('-') {
        Some(("", last)) => match last.parse::<u64>() {
            Ok(0) => Part::Beyond,
            Ok(last) if size > 0 => Part::Bytes(size.saturating_sub(last), size),
            Ok(_) => Part::Beyond,
            Err(_) => Part::Whole,
        },
        Some((first, last)) => match (first.parse::<u64>(), last) {
            (Ok(first), _) if first >= size => Part::Beyond,
            (Ok(first), "") => Part::Bytes(first, size),
            (Ok(first), last) => match last.parse::<u64>() {
                Ok(last) if last >= first => Part::Bytes(first, last.saturating_add(1).min(size)),
                _ => Part::Whole,
            },
            (Err(_), _) => Part::Whole,
        },
        None => Part::Whole,
    }
}

/// Text that people read is text; nothing is ever a page that a browser would run.
fn content_type(name: &str) -> &'static str {
    const TEXT: [&str; 13] =
        ["txt", "log", "err", "cfg", "conf", "ini", "json", "yaml", "yml", "md", "csv", "toml", "py"];
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension {
        Some(extension) if TEXT.contains(&extension.as_str()) => "text/plain",
        None if name == "MLmodel" => "text/plain",
        _ => "application/octet-stream",
    }
}

fn disposition(name: &str) -> HeaderValue {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_graphic() && c != '"' || c == ' ' { c } else { '_' }).collect();
    HeaderValue::from_str(&format!("attachment; filename=\"{plain}\""))
        .unwrap_or_else(|_| HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(headers: &[(&'static str, &str)]) -> Part {
        let headers = headers.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        part(&headers.collect(), 10, Some("\"abc\""))
    }

    #[test]
    fn the_ranges_of_the_rfc_are_read() {
        for (range, expected) in [
            ("bytes=0-3", Part::Bytes(0, 4)),
            ("bytes=4-", Part::Bytes(4, 10)),
            ("bytes=-3", Part::Bytes(7, 10)),
            ("bytes=-30", Part::Bytes(0, 10)),
            ("bytes=8-99", Part::Bytes(8, 10)),
            ("bytes=10-", Part::Beyond),
            ("bytes=-0", Part::Beyond),
            ("bytes=5-2", Part::Whole),
            ("bytes=0-1,4-5", Part::Whole),
            ("bytes=x-", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=18446744073709551615-18446744073709551615", Part::Beyond),
        ] {
            assert_eq!(asking(&[("range", range)]), expected, "{range}");
        }
    }

    #[test]
    fn a_file_that_changed_is_sent_whole() {
        assert_eq!(asking(&[("range", "bytes=4-"), ("if-range", "\"abc\"")]), Part::Bytes(4, 10));
        assert_eq!(asking(&[("range", "bytes=4-"), ("if-range", "\"abd\"")]), Part::Whole);
    }
}
