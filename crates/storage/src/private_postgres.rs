//! A Postgres of our own under a data directory: for `foretime up` without a database, and for tests.
//!
//! It listens on a unix socket only, runs as an unprivileged user when we are root, keeps its data between starts, shuts down
//! cleanly when [`PrivatePostgres::stop`] is called or it is dropped, and also when our process is killed. One that is thrown
//! away, with everything in it, waits for no disk and ends at once.

use std::ffi::CStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fs, io};

use domain::{Fault, Remedy};

/// The private Postgres could not be run.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No server is installed.
    #[error(
        "no Postgres server was found in $PG_BINDIR, /usr/lib/postgresql or $PATH; install one (`apt-get install postgresql`, or `make setup`), or set `database_url` to one that runs"
    )]
    NotInstalled,
    /// Root must drop to somebody, and nobody is there.
    #[error(
        "Postgres refuses to run as root and neither user `postgres` nor `nobody` exists; start foretime as an ordinary user"
    )]
    NoUnprivilegedUser,
    /// Unix sockets have short names.
    #[error("the socket path `{}` is longer than 107 bytes; choose a shorter data directory", .0.display())]
    PathTooLong(PathBuf),
    /// The directory cannot be written.
    #[error("`{}` cannot be used as a data directory: {cause}; choose one that is writable and has room", path.display())]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// `initdb` or the server said no.
    #[error("{program} failed: {said}; the whole log is in `{}`", log.display())]
    Failed {
        /// `initdb` or `postgres`.
        program: &'static str,
        /// Its last words.
        said: String,
        /// Where it wrote the rest.
        log: PathBuf,
    },
}

impl Fault for PostgresError {
    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }
    fn code(&self) -> &'static str {
        match self {
            Self::NotInstalled => "postgres-not-installed",
            Self::NoUnprivilegedUser => "no-unprivileged-user",
            Self::PathTooLong(_) => "socket-path-too-long",
            Self::Directory { .. } => "data-directory",
            Self::Failed { .. } => "postgres-failed",
        }
    }
}

/// What becomes of a server's data when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    /// The next start finds everything that was committed.
    Kept,
    /// Nobody asks for it again.
    ThrownAway,
}

impl Data {
    /// The signal that ends the server: "fast" rolls back, writes everything and exits; "immediate" only exits.
    fn ending(self) -> i32 {
        match self {
            Self::Kept => libc::SIGINT,
            Self::ThrownAway => libc::SIGQUIT,
        }
    }

    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Kept => &[],
            Self::ThrownAway => &["fsync=off", "synchronous_commit=off", "full_page_writes=off"],
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct PrivatePostgres {
    child: Option<Child>,
    data: Data,
    socket_dir: PathBuf,
    // Dropped last: the thread that spawned the server lives as long as this, because the parent-death signal is sent
    // when the spawning *thread* ends.
    _keeper: mpsc::Sender<()>,
}

impl PrivatePostgres {
    /// Starts the server of `root`, creating its database cluster the first time, and waits until it answers.
    ///
    /// # Errors
    /// [`PostgresError`] says what is missing or what the server said.
    pub fn start(root: &Path) -> Result<Self, PostgresError> {
        Self::start_with(root, Data::Kept)
    }

    /// As [`PrivatePostgres::start`], for data that nobody needs once it has ended, such as that of tests: it does not wait for the
    /// disk, and stops without writing anything. `root` is then of no further use.
    ///
    /// # Errors
    /// [`PostgresError`] says what is missing or what the server said.
    pub fn start_throwaway(root: &Path) -> Result<Self, PostgresError> {
        Self::start_with(root, Data::ThrownAway)
    }

    fn start_with(root: &Path, data: Data) -> Result<Self, PostgresError> {
        let user = unprivileged_user()?;
        let bin = bin_dir()?;
        let cluster = Cluster::prepare(root, user)?;
        if !cluster.data.join("PG_VERSION").exists() {
            cluster.init(&bin)?;
        }
        cluster.wait_for_reaper();
        let (keeper, until_dropped) = mpsc::channel::<()>();
        let (report, started) = mpsc::channel();
        let socket_dir = cluster.socket_dir.clone();
        std::thread::spawn(move || {
            let _ = report.send(cluster.serve(&bin, data));
            let _ = until_dropped.recv(); // ends when the keeper is dropped
        });
        let child = started.recv().expect("the thread always reports before it waits")?;
        Ok(Self { child: Some(child), data, socket_dir, _keeper: keeper })
    }

    /// The address of a database of the server of `root` that another process runs; none if nobody does.
    pub fn running(root: &Path, database: &str) -> Option<String> {
        let text = fs::read_to_string(root.join("data/postmaster.pid")).ok()?;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let pid: u32 = lines.first()?.parse().ok()?;
        let lives = Path::new(&format!("/proc/{pid}")).exists() && lines.get(7) == Some(&"ready");
        let socket_dir = root.join("socket");
        (lives && socket_dir.join(".s.PGSQL.5432").exists()).then(|| address(database, &socket_dir))
    }

    /// The address of a database of this server.
    pub fn url(&self, database: &str) -> String {
        address(database, &self.socket_dir)
    }

    /// The server's process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Shuts the server down: open transactions are rolled back, and everything is written that is not thrown away.
    ///
    /// # Errors
    /// If the process cannot be waited for.
    pub fn stop(mut self) -> io::Result<()> {
        self.stop_now()
    }

    fn stop_now(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), self.data.ending());
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        let _ = self.stop_now();
    }
}

fn address(database: &str, socket_dir: &Path) -> String {
    format!("postgres:///{database}?host={}&user=postgres", socket_dir.display())
}

/// Where the `postgres` and `initdb` programs are: `$PG_BINDIR`, the newest `/usr/lib/postgresql/N/bin`, or `$PATH`.
///
/// # Errors
/// [`PostgresError::NotInstalled`].
pub fn bin_dir() -> Result<PathBuf, PostgresError> {
    let complete = |dir: &PathBuf| dir.join("postgres").exists() && dir.join("initdb").exists();
    let (chosen, path) = (std::env::var_os("PG_BINDIR"), std::env::var_os("PATH"));
    if let Some(dir) = chosen {
        return Some(PathBuf::from(dir)).filter(complete).ok_or(PostgresError::NotInstalled);
    }
    let mut packaged: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, dir)| complete(dir))
        .collect();
    packaged.sort();
    if let Some((_, dir)) = packaged.pop() {
        return Ok(dir);
    }
    std::env::split_paths(&path.unwrap_or_default()).find(complete).ok_or(PostgresError::NotInstalled)
}

#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

/// Whom to become; `None` if we are unprivileged already.
fn unprivileged_user() -> Result<Option<User>, PostgresError> {
    #[expect(unsafe_code, reason = "geteuid reads one number and cannot fail")]
    let uid = unsafe { libc::geteuid() };
    if uid != 0 {
        return Ok(None);
    }
    [c"postgres", c"nobody"].into_iter().find_map(look_up).map(Some).ok_or(PostgresError::NoUnprivilegedUser)
}

fn look_up(name: &CStr) -> Option<User> {
    #[expect(
        unsafe_code,
        reason = "getpwnam answers null or a record that is copied before anybody else can ask"
    )]
    unsafe {
        let record = libc::getpwnam(name.as_ptr());
        (!record.is_null()).then(|| User { uid: (*record).pw_uid, gid: (*record).pw_gid })
    }
}

fn signal(pid: u32, signal: i32) {
    #[expect(unsafe_code, reason = "kill has no memory effects; the child is ours and not yet waited for")]
    unsafe {
        libc::kill(pid.cast_signed(), signal);
    }
}

/// The files of one database cluster.
struct Cluster {
    data: PathBuf,
    socket_dir: PathBuf,
    log: PathBuf,
    user: Option<User>,
}

impl Cluster {
    fn prepare(root: &Path, user: Option<User>) -> Result<Self, PostgresError> {
        let cluster = Self {
            data: root.join("data"),
            socket_dir: root.join("socket"),
            log: root.join("postgres.log"),
            user,
        };
        let socket = cluster.socket_dir.join(".s.PGSQL.5432");
        if socket.as_os_str().len() > 107 {
            return Err(PostgresError::PathTooLong(socket));
        }
        for dir in [&cluster.data, &cluster.socket_dir] {
            cluster.own(dir).map_err(|cause| PostgresError::Directory { path: dir.clone(), cause })?;
        }
        Ok(cluster)
    }

    fn own(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        match self.user {
            Some(user) if fs::metadata(dir)?.uid() != user.uid => chown(dir, Some(user.uid), Some(user.gid)),
            _ => Ok(()),
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(user) = self.user {
            command.gid(user.gid).uid(user.uid); // the standard library clears the supplementary groups with it
        }
        command.env_clear().env("LC_ALL", "C.UTF-8").env("TZ", "UTC").env("PATH", "/usr/bin:/bin");
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn init(&self, bin: &Path) -> Result<(), PostgresError> {
        let output = self
            .command(&bin.join("initdb"))
            .arg("-D")
            .arg(&self.data)
            .args(["-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--lc-collate=C", "--data-checksums"])
            .args(["--auth-local=trust", "--auth-host=reject", "--no-sync"])
            .output()
            .map_err(|cause| PostgresError::Directory { path: bin.join("initdb"), cause })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(PostgresError::Failed { program: "initdb", said, log: self.log.clone() })
    }

    /// A killed server whose parent died stays a zombie until process 1 reaps it; Postgres takes it for alive. Waits for that.
    fn wait_for_reaper(&self) {
        let deadline = Instant::now() + Duration::from_secs(15);
        while self.is_zombie() && Instant::now() < deadline {
            pause(Duration::from_millis(50));
        }
    }

    fn is_zombie(&self) -> bool {
        let pid_file = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let Some(pid) = pid_file.lines().next().and_then(|line| line.trim().parse::<u32>().ok()) else {
            return false;
        };
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
    }

    fn serve(&self, bin: &Path, data: Data) -> Result<Child, PostgresError> {
        let in_directory = |cause| PostgresError::Directory { path: self.log.clone(), cause };
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log).map_err(in_directory)?;
        let mut command = self.command(&bin.join("postgres"));
        command.arg("-D").arg(&self.data).arg("-k").arg(&self.socket_dir);
        for setting in SETTINGS.iter().chain(data.settings()) {
            command.arg("-c").arg(setting);
        }
        command.stdout(log.try_clone().map_err(in_directory)?).stderr(log);
        command.process_group(0); // a terminal's ^C reaches us only; we then stop it in order
        #[expect(
            unsafe_code,
            reason = "between fork and exec only prctl is called, which is async-signal-safe"
        )]
        unsafe {
            command.pre_exec(move || match libc::prctl(libc::PR_SET_PDEATHSIG, data.ending()) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        let child = command.spawn().map_err(in_directory)?;
        self.await_readiness(child)
    }

    /// The same test as `pg_ctl -w`: our process id on line 1 and `ready` on line 8 of `postmaster.pid`.
    fn await_readiness(&self, mut child: Child) -> Result<Child, PostgresError> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if child.try_wait().is_ok_and(|status| status.is_some()) {
                return Err(self.failed());
            }
            let text = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let ours = lines.first().is_some_and(|pid| *pid == child.id().to_string());
            if ours && lines.get(7) == Some(&"ready") {
                return Ok(child);
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                return Err(self.failed());
            }
            pause(Duration::from_millis(5));
        }
    }

    fn failed(&self) -> PostgresError {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let said = log.lines().rev().find(|line| line.contains("FATAL")).or(log.lines().next_back());
        let said = said.unwrap_or("no word").to_owned();
        PostgresError::Failed { program: "postgres", said, log: self.log.clone() }
    }
}

const SETTINGS: [&str; 7] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "max_connections=100",
    "shared_buffers=128MB",
    "max_wal_size=2GB",
    "random_page_cost=1.1", // what is asked for often lies in memory, and nothing here turns on a spindle
    "log_min_messages=warning",
];

#[expect(
    clippy::disallowed_methods,
    reason = "the system offers no event for these two files; both waits have a deadline"
)]
fn pause(span: Duration) {
    std::thread::sleep(span);
}
