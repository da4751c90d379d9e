//! What a run ran on, and with which versions.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

use crate::engine::Name;

/// Processor, cores, memory, kernel, and the file system of a directory; what cannot be found out is left out.
pub(crate) fn describe(directory: &Path) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let cores = available_parallelism().map_or(0, usize::from);
    let memory = value(&read("/proc/meminfo"), "MemTotal");
    let gib = memory.and_then(|memory| memory.trim_end_matches(" kB").parse::<f64>().ok()).map(|kib| kib / 1_048_576.0);
    let parts = [
        value(&read("/proc/cpuinfo"), "model name"),
        Some(format!("{cores} cores")),
        gib.map(|gib| format!("{gib:.0} GiB")),
        Some(format!("Linux {}", read("/proc/sys/kernel/osrelease").trim())),
        file_system(&read("/proc/mounts"), directory),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The kind of the mount that lies deepest above the directory.
fn file_system(mounts: &str, directory: &Path) -> Option<String> {
    let above = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (mount, kind) = (fields.next()?, fields.next()?);
        directory.starts_with(mount).then_some((mount.len(), kind))
    });
    // Of two mounts in one place the later one is seen.
    above.max_by_key(|(length, _)| *length).map(|(_, kind)| kind.to_owned())
}

/// The version of an engine, out of the lock file that this program was built with.
pub(crate) fn version(engine: Name) -> String {
    version_in(include_str!("../Cargo.lock"), engine.package()).unwrap_or_else(|| "unknown".to_owned())
}

fn version_in(lock: &str, package: &str) -> Option<String> {
    let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{package}\"\n")))?;
    let version = entry.split("version = \"").nth(1)?;
    version.split('"').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_has_a_version() {
        for engine in Name::ALL {
            assert_ne!(version(engine), "unknown", "{engine}");
        }
        assert!(version(Name::Sled).starts_with("0.34"));
        assert_eq!(version_in("[[package]]\nname = \"a\"\nversion = \"1.2\"\n", "a").as_deref(), Some("1.2"));
    }

    #[test]
    fn the_deepest_mount_counts() {
        let mounts = "/dev/a / ext4 rw\ntmpfs /tmp tmpfs rw\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/x")).as_deref(), Some("tmpfs"));
        assert_eq!(file_system(mounts, Path::new("/home")).as_deref(), Some("ext4"));
    }
}
