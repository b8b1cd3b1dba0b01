//! Who may ask, and for what: the configured token, tokens with a role and a project, and on MLflow's routes users by name
//! and password. What changes things that are not data is written down.

mod guard;
pub(crate) mod routes;
mod rules;

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use domain::{Fault, Remedy};
use serde::{Deserialize, Serialize};

pub(crate) use guard::{Guard, guarded};

/// What somebody may do; each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Reader,
    /// Change things.
    Writer,
    /// Change who may do what, and go past a gate.
    Admin,
}

impl Role {
    /// `reader`, `writer` or `admin`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    fn named(name: &str) -> Option<Self> {
        [Self::Reader, Self::Writer, Self::Admin].into_iter().find(|role| role.as_str() == name)
    }
}

/// Who asks, and what they may do. Handlers take it as an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Their name, if they gave one. Beside a shared token it is a claim; beside a password it is proven.
    pub name: Option<String>,
    /// What they may do.
    pub role: Role,
}

impl Principal {
    /// Their name, for what is written down.
    pub fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or("anonymous")
    }

    /// Refuses whoever may only look.
    ///
    /// # Errors
    /// [`Forbidden`], which says `what` they may not do.
    pub fn may_write(&self, what: &'static str) -> Result<(), Forbidden> {
        self.may(Role::Writer, what)
    }

    /// Refuses whoever has a lesser role.
    ///
    /// # Errors
    /// [`Forbidden`], which says `what` they may not do.
    pub fn may(&self, needed: Role, what: &'static str) -> Result<(), Forbidden> {
        if self.role >= needed {
            return Ok(());
        }
        Err(Forbidden {
            who: self.shown().to_owned(),
            role: self.role.as_str(),
            what,
            needed: needed.as_str(),
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Infallible;

    /// Behind the door of `http` somebody is always known; elsewhere nobody may more than look.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let known = parts.extensions.get::<Self>().cloned();
        Ok(known.unwrap_or(Self { name: None, role: Role::Reader }))
    }
}

/// Somebody may not do what they asked for.
#[derive(Debug, thiserror::Error)]
#[error("{who} asks as a {role}, who may not {what}; ask with the token of a {needed}")]
pub struct Forbidden {
    who: String,
    role: &'static str,
    what: &'static str,
    needed: &'static str,
}

impl Fault for Forbidden {
    fn remedy(&self) -> Remedy {
        Remedy::AskPermission
    }
    fn code(&self) -> &'static str {
        "forbidden"
    }
}
