//! Paths that clients name. One becomes an [`ArtifactPath`] or nothing: what has none cannot reach a file.

use percent_encoding::percent_decode_str;

/// A path below the artifact root that cannot leave it, in any spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArtifactPath(String);

impl ArtifactPath {
    /// The path, if it is one: plain names between slashes, none of them special now or after more percent-decoding.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let trimmed = text.trim_end_matches('/');
        let plain = text.len() <= 2_000 && trimmed.split('/').all(is_plain_name);
        (plain && !decoded(trimmed).split('/').any(|name| matches!(name, "." | "..")))
            .then(|| Self(trimmed.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The last name.
    pub(crate) fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The path of `below` inside this directory.
    pub(crate) fn join(&self, below: &str) -> Option<Self> {
        if below.is_empty() { Some(self.clone()) } else { Self::parse(&format!("{}/{below}", self.0)) }
    }
}

fn is_plain_name(name: &str) -> bool {
    let decoded = decoded(name);
    !name.is_empty()
        && name.len() <= 255
        && !matches!(decoded.as_str(), "." | "..")
        && !decoded.chars().any(|character| matches!(character, '\\' | '\0') || character.is_control())
}

/// Percent-decoded until nothing changes: a second decoder down the line must not see another path.
fn decoded(text: &str) -> String {
    let mut text = text.to_owned();
    loop {
        let next = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if next == text {
            return text;
        }
        text = next;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_that_leaves_the_root_is_refused_in_every_spelling() {
        for path in [
            "",
            "/",
            "..",
            "../x",
            "a/../b",
            "a/..",
            "./a",
            "a/./b",
            "/etc/passwd",
            "a//b",
            "a\\..\\b",
            "..\\x",
            "%2e%2e/x",
            "a/%2e%2e/b",
            "%252e%252e/x",
            "a/%2E%2E",
            "..%2fx",
            "a%2f..%2fb",
            "a%5c..%5cb",
            "a\0b",
            "a%00",
            "a\nb",
            "%25252e%25252e%25252fx",
        ] {
            assert_eq!(ArtifactPath::parse(path), None, "{path:?}");
        }
    }

    #[test]
    fn an_ordinary_path_stays_as_it_is() {
        for path in [
            "1/abc/artifacts/model/MLmodel",
            "0/models/m-1/artifacts/a b.txt",
            "1/x/artifacts/..a/b..",
            "1/é/100%",
        ] {
            assert_eq!(ArtifactPath::parse(path).unwrap().as_str(), path);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_lies_below_the_root(path in "[a./%2eE5cfF\\\\0 ]{0,24}") {
            if let Some(path) = ArtifactPath::parse(&path) {
                let joined = Path::new("/root").join(path.as_str());
                let normal = |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir);
                prop_assert!(joined.starts_with("/root") && joined.components().all(normal));
            }
        }
    }
}
