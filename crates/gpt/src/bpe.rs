//! Byte-level byte-pair encoding: any text to ids and back, learned here or read from a Hugging Face `tokenizer.json`.
//!
//! The `tokenizers` crate does the work; this module decides what is accepted, so that no byte of a text is ever lost.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, ModelWrapper, Tokenizer};

use crate::{Error, files};

/// A byte-level tokenizer.
#[derive(Debug)]
pub struct Bpe {
    tokenizer: Tokenizer,
    vocabulary: usize,
}

/// What some texts cost in tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextCost {
    /// Texts.
    pub texts: usize,
    /// Their UTF-8 bytes.
    pub bytes: usize,
    /// Their tokens.
    pub tokens: usize,
}

impl TextCost {
    /// Bytes a token stands for, on average; 0 without tokens.
    pub fn bytes_per_token(&self) -> f64 {
        if self.tokens == 0 { 0.0 } else { self.bytes as f64 / self.tokens as f64 }
    }
}

/// What we follow of a `tokenizer.json`. The rest (truncation, padding, templates) would change what a text becomes, and
/// reading it is where `tokenizers` panics on damaged files.
#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    added_tokens: Vec<Value>,
    #[serde(default)]
    normalizer: Option<Value>,
    pre_tokenizer: StoredSplit,
    model: Value,
}

/// How texts are cut before pairs are joined.
#[derive(Deserialize)]
#[serde(default)]
struct StoredSplit {
    r#type: String,
    add_prefix_space: bool,
    trim_offsets: bool,
    use_regex: bool,
}

impl Default for StoredSplit {
    fn default() -> Self {
        Self { r#type: String::new(), add_prefix_space: true, trim_offsets: true, use_regex: true }
    }
}

impl StoredSplit {
    fn byte_level(&self) -> Result<ByteLevel, Error> {
        if self.r#type != "ByteLevel" {
            return Err(refused("its pre-tokenizer is not ByteLevel"));
        }
        Ok(ByteLevel::new(self.add_prefix_space, self.trim_offsets, self.use_regex))
    }
}

fn refused(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Tokenizer { reason: error.into().to_string() }
}

impl Bpe {
    /// Learns a vocabulary of at most so many tokens: the 256 bytes, the special tokens, and the pairs that texts hold
    /// most often. The result depends on the texts alone.
    ///
    /// # Errors
    /// [`Error::Recipe`] if the vocabulary has no room for the bytes and the special tokens.
    ///
    /// # Source
    /// Sennrich, Haddow & Birch (2016); over bytes as in Radford et al. (2019).
    pub fn train<S: AsRef<str> + Send>(
        texts: impl Iterator<Item = S> + Send,
        vocabulary: usize,
        special: &[&str],
    ) -> Result<Self, Error> {
        let least = 256 + special.len();
        if vocabulary < least {
            let reason = format!("a byte-level vocabulary has at least {least} tokens, not {vocabulary}");
            return Err(Error::Recipe { reason });
        }
        let trainer = BpeTrainer::builder()
            .vocab_size(vocabulary)
            .show_progress(false)
            .special_tokens(special.iter().map(|&token| AddedToken::from(token, true)).collect())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut tokenizer = Tokenizer::new(BPE::default());
        let bytes = ByteLevel::new(false, true, true);
        tokenizer.with_pre_tokenizer(Some(bytes)).with_decoder(Some(bytes));
        tokenizer.train(&mut TrainerWrapper::BpeTrainer(trainer), texts).map_err(refused)?;
        Self::checked(tokenizer)
    }

    /// Reads the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if it is not JSON, not a byte-level BPE, or would lose bytes of a text.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let stored: Stored = serde_json::from_slice(json).map_err(refused)?;
        if stored.normalizer.is_some() {
            return Err(refused("it has a normalizer, which would change texts"));
        }
        let bytes = stored.pre_tokenizer.byte_level()?;
        let core = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": stored.added_tokens,
            "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": stored.model,
        });
        let mut tokenizer: Tokenizer = serde_json::from_value(core).map_err(refused)?;
        tokenizer.with_pre_tokenizer(Some(bytes)).with_decoder(Some(bytes));
        Self::checked(tokenizer)
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::Tokenizer`] if it is not one we can follow.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::from_json(&files::read_bytes(path)?)
    }

    /// The text of a `tokenizer.json` that `transformers` and `tokenizers` read.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if it cannot be written down.
    pub fn to_json(&self) -> Result<String, Error> {
        self.tokenizer.to_string(true).map_err(refused)
    }

    /// Writes `tokenizer.json`, whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        files::write_bytes(path, self.to_json()?.as_bytes())
    }

    /// The ids of a text; special tokens written out in it become their ids.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(self.tokenizer.encode_fast(text, false).map_err(refused)?.get_ids().to_vec())
    }

    /// The text of ids, special tokens included; bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`Error::Token`] for an id that is no token.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        if let Some(&id) = ids.iter().find(|&&id| self.tokenizer.id_to_token(id).is_none()) {
            return Err(Error::Token { id, vocabulary: self.vocabulary });
        }
        self.tokenizer.decode(ids, false).map_err(refused)
    }

    /// The id of a token as it stands in `tokenizer.json`.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// One more than the largest id: the vocabulary a model needs.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary
    }

    /// What texts cost in tokens.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer fails.
    pub fn cost<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> Result<TextCost, Error> {
        let mut cost = TextCost { texts: 0, bytes: 0, tokens: 0 };
        for text in texts {
            cost.texts += 1;
            cost.bytes += text.len();
            cost.tokens += self.encode(text)?.len();
        }
        Ok(cost)
    }

    fn checked(tokenizer: Tokenizer) -> Result<Self, Error> {
        if !matches!(tokenizer.get_model(), ModelWrapper::BPE(_)) {
            return Err(refused("its model is not BPE"));
        }
        let known = tokenizer.get_vocab(true);
        if let Some(byte) =
            ByteLevel::alphabet().into_iter().find(|byte| !known.contains_key(&byte.to_string()))
        {
            return Err(refused(format!("its vocabulary lacks the byte written `{byte}`")));
        }
        let vocabulary = known.values().max().map_or(0, |&id| id as usize + 1);
        Ok(Self { tokenizer, vocabulary })
    }
}
