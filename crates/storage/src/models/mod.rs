//! SQL over registered models, their versions, aliases and the history of those.
//!
//! A training service registers what it made with [`create_model_version`]. Aliases are moved by the `registry` service
//! only: it asks the gate first.

mod aliases;
mod gates;
pub mod history;
mod overview;
mod registered;
mod versions;

pub use aliases::{Alias, alias_of, aliases_of, claim_alias, delete_alias, set_alias};
pub use gates::gate_of;
pub use overview::{Overview, overviews};
pub use registered::{
    RegisteredModel, create, delete, delete_tag, find, load, lock, names, rename, set_description, set_tags,
    touch,
};
pub use versions::{
    Added, NewVersion, Unless, Version, add_version, create_model_version, delete_version,
    delete_version_tag, find_version, latest_versions_of, load_versions, newest_of_run,
    set_version_description, set_version_stage, set_version_tags, version_by_alias, version_of_tagged_run,
    versions_of,
};
