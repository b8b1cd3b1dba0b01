//! `foretime backup` and `restore`: the whole state in a folder, consistent, and out of it into an empty database.
//!
//! A backup is of one moment: all tables are read in one transaction, and files are only ever added before a row names them,
//! so the files that are copied after it hold everything that the rows name. A lease keeps those that merges replace meanwhile.
//! The manifest is written last and holds the hash of every file: a folder without one is no backup.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use domain::ids::PartLeaseId;
use domain::{Clock, SystemClock};
use serde::{Deserialize, Serialize};
use service_kit::Config;
use sha2::{Digest, Sha256};
use storage::backup::{self, Sequence, Table};

use crate::Failure;
use crate::up::Database;

/// The layout of the folder.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
/// How long replaced parts are kept at most for a backup that is being made.
const LEASE: TimeDelta = TimeDelta::hours(24);
/// What lies in the data directory and is not state: the private Postgres, copies of what a bucket holds, uploads and trainings under
/// way.
const NOT_STATE: [&str; 5] = ["postgres", "cache", "incoming", "checkpoints", "backups"];

/// What a backup holds.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// The version of the program that made it.
    made_by: String,
    taken_at: DateTime<Utc>,
    /// The newest migration that the database had.
    migration: i64,
    tables: Vec<TableFile>,
    sequences: Vec<Sequence>,
    files: Vec<Hashed>,
    /// Buckets that hold the rest: they are not copied.
    buckets: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TableFile {
    #[serde(flatten)]
    table: Table,
    sha256: String,
}

/// A file below the data directory.
#[derive(Debug, Serialize, Deserialize)]
struct Hashed {
    path: PathBuf,
    bytes: u64,
    sha256: String,
}

/// What a backup came to.
#[derive(Debug)]
pub(crate) struct Taken {
    taken_at: DateTime<Utc>,
    tables: usize,
    files: usize,
    bytes: u64,
    buckets: Vec<String>,
}

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tables, files, taken_at, .. } = self;
        write!(
            f,
            "backed up {tables} tables and {files} files of {:.1} MB as of {taken_at}",
            self.bytes as f64 / 1e6
        )
    }
}

/// Writes everything into `folder`, while the platform runs or stands still, and says so.
///
/// # Errors
/// If the folder holds something, or something cannot be read or written.
pub async fn take(config: &Config, folder: &Path) -> Result<(), Failure> {
    let database = Database::attach(config)?;
    let pool = storage::connect(database.url(), 2).await?;
    let taken = take_from(&pool, config, folder).await?;
    println!("{taken} into {}", folder.display());
    for bucket in &taken.buckets {
        println!("`{bucket}` is not in it: a bucket keeps its own copies");
    }
    pool.close().await;
    database.close()
}

/// Writes everything into `folder`.
///
/// # Errors
/// As [`take`].
pub(crate) async fn take_from(pool: &sqlx::PgPool, config: &Config, folder: &Path) -> Result<Taken, Failure> {
    if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure(format!(
            "`{}` holds something; name an empty or a new folder",
            folder.display()
        )));
    }
    fs::create_dir_all(folder.join("tables")).map_err(at(folder))?;
    let migration = storage::pool::newest_migration(pool).await?.unwrap_or_default();
    let (leases, mut tx) = hold_and_freeze(pool).await?;
    let taken_at = SystemClock.now();
    let mut tables = Vec::new();
    for table in backup::tables(&mut tx).await? {
        let path = table_file(folder, &table);
        let mut sink = Hashing::over(File::create(&path).map_err(at(&path))?);
        backup::copy_out(&mut tx, &table, &mut sink).await?;
        tables.push(TableFile { table, sha256: sink.finish().map_err(at(&path))?.0 });
    }
    let sequences = backup::sequences(&mut tx).await?;
    tx.rollback().await.map_err(storage::Error::from)?;
    let (data_dir, here) = (config.data_dir.clone(), folder.to_owned());
    let files = tokio::task::spawn_blocking(move || copy_tree(&data_dir, &here.join("files"), &here)).await;
    let mut conn = pool.acquire().await.map_err(storage::Error::from)?;
    for lease in leases.into_values() {
        storage::parts::release(&mut conn, lease).await?;
    }
    let files = files.map_err(|error| Failure(format!("the files were not copied: {error}")))??;
    let buckets: Vec<String> =
        [&config.offline.url, &config.artifacts.url].into_iter().flatten().cloned().collect();
    let manifest = Manifest {
        format: FORMAT,
        made_by: env!("CARGO_PKG_VERSION").to_owned(),
        taken_at,
        migration,
        tables,
        sequences,
        files,
        buckets,
    };
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| Failure(error.to_string()))?;
    frames::files::write_bytes(&folder.join(MANIFEST), &text)?;
    Ok(Taken {
        taken_at,
        tables: manifest.tables.len(),
        files: manifest.files.len(),
        bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        buckets: manifest.buckets,
    })
}

type Leases = BTreeMap<String, PartLeaseId>;
type Frozen = sqlx::Transaction<'static, sqlx::Postgres>;

/// Keeps the files of parts that are replaced from now on, of every project there is, and freezes what is read. A project that
/// came in between is found in what was frozen, and then it is done again.
async fn hold_and_freeze(pool: &sqlx::PgPool) -> Result<(Leases, Frozen), Failure> {
    let mut leases = Leases::new();
    loop {
        let mut tx = pool.begin().await.map_err(storage::Error::from)?;
        backup::freeze(&mut tx).await?;
        let mut missed = backup::projects(&mut tx).await?;
        missed.retain(|project| !leases.contains_key(project));
        if missed.is_empty() {
            return Ok((leases, tx));
        }
        tx.rollback().await.map_err(storage::Error::from)?;
        for project in missed {
            let lease = hold_parts(pool, &project).await?;
            leases.insert(project, lease);
        }
    }
}

/// Keeps the files of a project's parts that are replaced from now on.
async fn hold_parts(pool: &sqlx::PgPool, project: &str) -> Result<PartLeaseId, Failure> {
    let mut tx = pool.begin().await.map_err(storage::Error::from)?;
    storage::parts::lock(&mut tx, project, false).await?;
    let lease = storage::parts::lease(&mut tx, project, SystemClock.now() + LEASE).await?;
    tx.commit().await.map_err(storage::Error::from)?;
    Ok(lease)
}

/// Whether a folder holds a whole backup: its manifest is written last.
pub(crate) fn is_whole(folder: &Path) -> bool {
    folder.join(MANIFEST).is_file()
}

/// Puts a backup into an empty database and an empty data directory, after every hash was checked.
///
/// # Errors
/// If the backup is not whole, or there is something already.
pub async fn put_back(config: &Config, folder: &Path) -> Result<(), Failure> {
    let manifest = read_manifest(folder)?;
    check(folder, &manifest)?;
    let database = Database::open(config)?;
    let pool = storage::connect(database.url(), 2).await?;
    if let Some(migration) = storage::pool::newest_migration(&pool).await? {
        return Err(Failure(format!(
            "the database is not empty: it is at migration {migration}; name a new --data-dir, or another empty database"
        )));
    }
    for file in &manifest.files {
        copy(&folder.join("files").join(&file.path), &config.data_dir.join(&file.path))?;
    }
    backup::schema_of(&pool, manifest.migration).await?;
    let mut tx = pool.begin().await.map_err(storage::Error::from)?;
    for TableFile { table, .. } in manifest.tables.iter().rev().filter(|file| !is_made_later(&file.table)) {
        backup::empty(&mut tx, table).await?;
    }
    let (later, first): (Vec<_>, Vec<_>) =
        manifest.tables.iter().map(|file| &file.table).partition(|table| is_made_later(table));
    for table in first {
        fill(&mut tx, folder, table).await?;
    }
    for table in later {
        backup::make_online(&mut tx, table).await?;
        fill(&mut tx, folder, table).await?;
    }
    for sequence in &manifest.sequences {
        backup::put_back(&mut tx, sequence).await?;
    }
    tx.commit().await.map_err(storage::Error::from)?;
    storage::migrate(&pool).await?;
    println!("restored what was known at {} into {}", manifest.taken_at, config.data_dir.display());
    pool.close().await;
    database.close()
}

/// The tables of view versions are made when their versions are known.
fn is_made_later(table: &Table) -> bool {
    table.name.strip_prefix("online_").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

async fn fill(conn: &mut sqlx::PgConnection, folder: &Path, table: &Table) -> Result<(), Failure> {
    let path = table_file(folder, table);
    let mut rows = BufReader::new(File::open(&path).map_err(at(&path))?);
    backup::copy_in(conn, table, &mut rows).await?;
    Ok(())
}

fn read_manifest(folder: &Path) -> Result<Manifest, Failure> {
    let path = folder.join(MANIFEST);
    let text = fs::read(&path).map_err(|error| {
        Failure(format!("`{}` is no whole backup: its manifest cannot be read: {error}", folder.display()))
    })?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| Failure(format!("`{}`: {error}", path.display())))?;
    if manifest.format != FORMAT {
        let said = format!("the backup has format {}, this program knows {FORMAT}", manifest.format);
        return Err(Failure(said));
    }
    Ok(manifest)
}

/// Refuses a backup of which something is missing or altered, before anything is written.
fn check(folder: &Path, manifest: &Manifest) -> Result<(), Failure> {
    for file in &manifest.tables {
        frames::files::verify(&table_file(folder, &file.table), &file.sha256)?;
    }
    for file in &manifest.files {
        if file.path.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return Err(Failure(format!("`{}` leads out of the data directory", file.path.display())));
        }
        frames::files::verify(&folder.join("files").join(&file.path), &file.sha256)?;
    }
    Ok(())
}

fn table_file(folder: &Path, table: &Table) -> PathBuf {
    folder.join("tables").join(format!("{}.copy", table.name))
}

/// Copies what is state; a file that goes while it is copied was named by nothing.
fn copy_tree(data_dir: &Path, into: &Path, backup: &Path) -> Result<Vec<Hashed>, Failure> {
    let backup = backup.canonicalize().map_err(at(backup))?;
    let mut open = vec![PathBuf::new()];
    let mut copied = Vec::new();
    while let Some(below) = open.pop() {
        let here = data_dir.join(&below);
        for entry in here.read_dir().map_err(at(&here))? {
            let entry = entry.map_err(at(&here))?;
            let path = below.join(entry.file_name());
            let kind = entry.file_type().map_err(at(&entry.path()))?;
            if is_not_state(&path) || entry.path().canonicalize().is_ok_and(|path| path == backup) {
                continue;
            }
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file()
                && let Some((sha256, bytes)) = copy(&entry.path(), &into.join(&path))?
            {
                copied.push(Hashed { path, bytes, sha256 });
            }
        }
    }
    copied.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(copied)
}

fn is_not_state(path: &Path) -> bool {
    let temporary = path.extension().is_some_and(|extension| extension == "tmp");
    temporary || NOT_STATE.iter().any(|name| path == Path::new(name))
}

/// Copies a file; answers its hash and size, or `None` if it is gone.
fn copy(from: &Path, to: &Path) -> Result<Option<(String, u64)>, Failure> {
    let mut source = match File::open(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(at(from))?,
    };
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(at(folder))?;
    }
    let mut sink = Hashing::over(File::create(to).map_err(at(to))?);
    io::copy(&mut Read::by_ref(&mut source), &mut sink).map_err(at(to))?;
    let permissions = source.metadata().map_err(at(from))?.permissions();
    fs::set_permissions(to, permissions).map_err(at(to))?;
    sink.finish().map(Some).map_err(at(to))
}

fn at(path: &Path) -> impl Fn(io::Error) -> Failure + use<> {
    let path = path.to_owned();
    move |error| Failure(format!("`{}`: {error}", path.display()))
}

/// A file that is hashed while it is written.
struct Hashing {
    file: io::BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl Hashing {
    fn over(file: File) -> Self {
        Self { file: io::BufWriter::with_capacity(1 << 20, file), hash: Sha256::new(), bytes: 0 }
    }

    /// Brings everything to the disk; answers hash and size.
    fn finish(mut self) -> io::Result<(String, u64)> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok((hex::encode(self.hash.finalize()), self.bytes))
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.file.write(bytes)?;
        self.hash.update(&bytes[..taken]);
        self.bytes += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
