//! `foretime doctor`: what is wrong, and how to mend it.

use service_kit::Config;
use storage::private_postgres::bin_dir;

use crate::Failure;
use crate::client::Client;
use crate::up::Database;

/// What one check found.
struct Finding {
    what: &'static str,
    result: Result<String, String>,
}

/// Checks everything that a start needs, prints what was found, and fails if something is wrong.
///
/// # Errors
/// If a check failed.
pub(crate) async fn run(config: &Config) -> Result<(), Failure> {
    let mut findings = vec![
        Finding { what: "data directory", result: data_dir(config) },
        Finding { what: "disk", result: disk(config) },
        Finding { what: "port", result: port(config).await },
        Finding { what: "device", result: device(config) },
    ];
    findings.extend(database(config).await);
    for Finding { what, result } in &findings {
        match result {
            Ok(said) => println!("ok    {what:<15} {said}"),
            Err(said) => println!("WRONG {what:<15} {said}"),
        }
    }
    match findings.iter().filter(|finding| finding.result.is_err()).count() {
        0 => Ok(()),
        wrong => Err(Failure(format!("{wrong} of {} checks failed", findings.len()))),
    }
}

fn data_dir(config: &Config) -> Result<String, String> {
    let folder = &config.data_dir;
    let probe = folder.join(".foretime-probe");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&probe, b"probe"))
        .and_then(|()| std::fs::remove_file(&probe))
        .map(|()| format!("`{}` can be written", folder.display()))
        .map_err(|error| format!("`{}`: {error}; choose another with --data-dir", folder.display()))
}

fn disk(config: &Config) -> Result<String, String> {
    const NEEDED_GB: f64 = 2.0;
    let path =
        std::ffi::CString::new(config.data_dir.to_string_lossy().as_bytes()).map_err(|e| e.to_string())?;
    #[expect(unsafe_code, reason = "statvfs fills a plain struct of numbers; zeroes are a valid start")]
    let free = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        match libc::statvfs(path.as_ptr(), &raw mut found) {
            0 => found.f_bavail as f64 * found.f_frsize as f64 / 1e9,
            _ => return Err(std::io::Error::last_os_error().to_string()),
        }
    };
    if free < NEEDED_GB {
        return Err(format!(
            "{free:.1} GB are free, at least {NEEDED_GB} should be; make room or choose another --data-dir"
        ));
    }
    Ok(format!("{free:.1} GB are free"))
}

async fn port(config: &Config) -> Result<String, String> {
    let address = config.http.listen;
    match tokio::net::TcpListener::bind(address).await {
        Ok(_) => Ok(format!("{address} is free")),
        Err(_) if is_ours(config).await => Ok(format!("a Foretime answers at {address}")),
        Err(error) => {
            Err(format!("{address}: {error}; stop the other program, or choose another `http.listen`"))
        }
    }
}

/// Whether it is a Foretime that listens there.
async fn is_ours(config: &Config) -> bool {
    let Ok(client) = Client::of(config) else { return false };
    client.text("/v1/jobs?limit=1").await.is_ok()
}

fn device(config: &Config) -> Result<String, String> {
    let name = &config.worker.device;
    gpt::device::open(name).map(|_| name.clone()).map_err(|error| format!("`worker.device`: {error}"))
}

async fn database(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.database_url.is_none() {
        let result = bin_dir()
            .map(|dir| format!("programs in `{}`", dir.display()))
            .map_err(|error| error.to_string());
        let missing = result.is_err();
        findings.push(Finding { what: "postgres", result });
        if missing {
            return findings;
        }
    }
    let migrations = async {
        let database = Database::attach(config)?;
        let pool = storage::connect(database.url(), 1).await?;
        let newest = storage::pool::newest_migration(&pool).await?;
        let current = storage::pool::require_current_schema(&pool).await;
        pool.close().await;
        database.close()?;
        match (newest, current) {
            (None, _) => Ok("the database is empty; the first start fills it".to_owned()),
            (Some(newest), Ok(())) => Ok(format!("current ({newest})")),
            (_, Err(error)) => Err(Failure::from(error)),
        }
    };
    let result = migrations.await.map_err(|Failure(said)| said);
    findings.push(Finding { what: "migrations", result });
    findings
}
