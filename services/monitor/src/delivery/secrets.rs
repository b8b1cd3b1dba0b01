//! Where secrets come from: definitions name them, the environment of the process holds them.

use std::collections::BTreeMap;
use std::sync::Arc;

use service_kit::Context;

type Find = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Finds a secret by its name.
#[derive(Clone)]
pub struct Secrets(Arc<Find>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    /// These, and the environment is not asked: for tests, whose process must not change its environment. Whoever wants
    /// them puts them into the context by [`Context::shared`] before the monitor starts.
    pub fn given(secrets: BTreeMap<String, String>) -> Self {
        Self(Arc::new(move |name| secrets.get(name).cloned()))
    }

    /// Those of the context; the environment's, unless others were given.
    pub(crate) fn of(context: &Context) -> Self {
        context.shared(|_| Self(Arc::new(|name| std::env::var(name).ok())))
    }

    pub(super) fn find(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }
}
