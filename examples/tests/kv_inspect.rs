//! The tool says what is there, finds what is wrong, and an export comes back as it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use kv_core::store::{Corrupt, Fold, Folded, MergeOperator};
use kv_core::time::Millis;
use kv_examples::kv_inspect::arguments::Arguments;
use kv_examples::kv_inspect::stream::Wrong;
use kv_examples::kv_inspect::{ToolError, run};
use kv_lsm::inspect::{Files, Options};
use kv_lsm::{Database, Error, KeyspaceOptions};
use serde_json::Value;
use tempfile::TempDir;

/// Joins operands.
struct Concatenation;

impl MergeOperator for Concatenation {
    fn fold(
        &self,
        _: &[u8],
        base: Option<&[u8]>,
        operands: &[&[u8]],
        _: Fold,
        out: &mut Vec<u8>,
    ) -> Result<Folded, Corrupt> {
        out.extend_from_slice(base.unwrap_or_default());
        operands.iter().for_each(|operand| out.extend_from_slice(operand));
        Ok(Folded::Value)
    }
}

/// Far enough ahead that no test sees it pass.
const EXPIRE_AT: Millis = Millis(1 << 45);

fn users() -> KeyspaceOptions {
    KeyspaceOptions::default().default_ttl(Duration::from_secs(3_600)).filter_bits_per_key(12)
}

fn photos() -> KeyspaceOptions {
    KeyspaceOptions::default().separate_values_from(1_000)
}

fn notes() -> KeyspaceOptions {
    KeyspaceOptions::default().merge(Arc::new(Concatenation))
}

/// 1,000 users and 3 photos in tables, a note, and one more user and a delete in the log.
fn fill(directory: &Path) {
    let db = Database::open(directory).unwrap();
    let plain = db.keyspace("users", users().no_default_ttl()).unwrap();
    for number in 0..500 {
        plain.put(format!("user {number:04}"), format!("for ever {number}")).unwrap();
    }
    let users = db.keyspace("users", users()).unwrap();
    for number in 500..1_000 {
        let expire_at = EXPIRE_AT.saturating_add(Millis(number));
        users.put_expiring(format!("user {number:04}"), format!("for now {number}"), expire_at).unwrap();
    }
    let photos = db.keyspace("photos", photos()).unwrap();
    for number in 0..3_u8 {
        photos.put([0xff, number], vec![number; 5_000]).unwrap();
    }
    let notes = db.keyspace("notes", notes()).unwrap();
    notes.merge("n", "a").unwrap();
    notes.merge("n", "b").unwrap();
    notes.compact_range(..).unwrap();
    users.put_expiring("user 1000", "late", EXPIRE_AT).unwrap();
    photos.delete([0xff, 1]).unwrap();
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

fn tool(arguments: &[&str]) -> (Result<bool, ToolError>, String) {
    let mut out = Vec::new();
    let arguments = Arguments::try_parse_from([&["kv_inspect"], arguments].concat()).unwrap();
    let result = run(&arguments, &mut out);
    (result, String::from_utf8(out).unwrap())
}

/// What a command that finds everything in order prints, as text and as JSON.
fn shown(arguments: &[&str]) -> (String, Value) {
    let (result, text) = tool(arguments);
    assert!(result.unwrap(), "{text}");
    let (result, json) = tool(&[arguments, &["--json"]].concat());
    assert!(result.unwrap());
    (text, serde_json::from_str(&json).unwrap())
}

fn first_table(directory: &str, keyspace: usize) -> PathBuf {
    let manifest = Files::default().manifest(directory).unwrap();
    manifest.keyspaces[keyspace].levels.iter().flatten().next().unwrap().file.clone()
}

type Content = Vec<(String, Options, Vec<(Vec<u8>, Vec<u8>, Option<Millis>)>)>;

fn content(directory: &str) -> Content {
    let db = Database::builder(directory).read_only(true).open().unwrap();
    let keyspace = |name: String| {
        let options = db.keyspace_options(&name).unwrap();
        let keyspace = db.keyspace(&name, options.clone()).unwrap();
        let entries = keyspace.iter().with_expiry().map(Result::unwrap);
        let entries = entries.map(|(key, value, expire_at)| (key.to_vec(), value.to_vec(), expire_at)).collect();
        (name, Options::from(&options), entries)
    };
    db.keyspaces().into_iter().map(keyspace).collect()
}

/// Names and bytes of the files in a directory.
fn files(directory: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let mut files: Vec<_> = paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn every_command_says_what_is_there_and_changes_nothing() {
    let place = Place::new();
    let db = place.path("db");
    fill(Path::new(&db));
    let before = files(&db);

    let (text, json) = shown(&["stats", &db]);
    assert!(text.starts_with("keyspace") && text.contains("1,000"), "{text}");
    assert_eq!(json["keyspaces"][0]["name"], "users");
    assert_eq!((&json["keyspaces"][0]["entries"], &json["keyspaces"][0]["expiring"]), (&1_000.into(), &500.into()));
    assert_eq!((&json["keyspaces"][1]["blob_files"], &json["all"]["tables"]), (&1.into(), &3.into()));

    let (_, json) = shown(&["manifest", &db]);
    assert_eq!(json["keyspaces"][0]["options"]["default_ttl_ms"], 3_600_000);
    assert_eq!(json["keyspaces"][1]["blob_files"][0]["records"], 3);
    assert_eq!(json["keyspaces"][2]["options"]["merge"], true);
    assert_eq!(json["flushed_sequence"], 1_005);

    let (_, json) = shown(&["levels", &db]);
    let tables = json["keyspaces"][0]["levels"].as_array().unwrap().iter().flat_map(|level| level.as_array().unwrap());
    let tables: Vec<_> = tables.collect();
    assert_eq!((tables.len(), &tables[0]["lower"], &tables[0]["upper"]), (1, &"user 0000".into(), &"user 0999".into()));

    let table = first_table(&db, 1);
    let (text, json) = shown(&["table", table.to_str().unwrap(), "--entries"]);
    assert!(text.contains("\\xff\\x00"), "{text}");
    assert_eq!((&json["properties"]["entries"], &json["blocks"][0]["entries"]), (&3.into(), &3.into()));
    assert_eq!((&json["entries"][1]["key"], &json["entries"][1]["value_bytes"]), (&"\\xff\\x01".into(), &5_000.into()));

    let manifest = Files::default().manifest(&db).unwrap();
    let (_, json) = shown(&["blob", manifest.keyspaces[1].blobs[0].file.to_str().unwrap(), "--entries"]);
    assert_eq!((&json["records"], &json["value_bytes"]), (&3.into(), &15_000.into()));
    assert_eq!(json["entries"][2]["key"], "\\xff\\x02");

    let log = manifest.log_files.last().unwrap().0.to_str().unwrap();
    let (_, json) = shown(&["log", log]);
    let operations: Vec<&Value> =
        json["records"].as_array().unwrap().iter().map(|record| &record["operations"][0]).collect();
    assert_eq!((&operations[0]["operation"], &operations[0]["key"]), (&"put expiring".into(), &"user 1000".into()));
    assert_eq!((&operations[1]["operation"], &operations[1]["sequence"]), (&"delete".into(), &1_007.into()));

    let (text, json) = shown(&["verify", &db]);
    assert!(text.ends_with("\nsound\n"), "{text}");
    assert_eq!((&json["sound"], &json["entries"], &json["blob_records"]), (&true.into(), &1_004.into(), &3.into()));
    assert_eq!((&json["batches"], &json["problems"]), (&2.into(), &Value::Array(Vec::new())));

    assert_eq!(files(&db), before);
}

#[test]
fn a_damaged_table_is_named_with_file_and_offset() {
    let place = Place::new();
    let db = place.path("db");
    fill(Path::new(&db));
    let table = first_table(&db, 0);
    let mut bytes = fs::read(&table).unwrap();
    bytes[40] ^= 1;
    fs::write(&table, bytes).unwrap();
    let (result, text) = tool(&["verify", &db]);
    assert!(!result.unwrap());
    let line = format!("WRONG: {} at byte 0: ", table.display());
    assert!(text.contains(&line) && text.ends_with("\n1 problem\n"), "{text}");
    let (result, json) = tool(&["verify", &db, "--json"]);
    assert!(!result.unwrap());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["sound"], &json["problems"][0]["offset"]), (&false.into(), &0.into()));
    assert_eq!(json["problems"][0]["file"], table.to_str().unwrap());
    let (result, _) = tool(&["table", table.to_str().unwrap()]);
    assert!(matches!(result, Err(ToolError::Engine(Error::Corrupt { file, offset: 0, .. })) if file == table));
}

#[test]
fn an_export_comes_back_as_it_was() {
    let place = Place::new();
    let (db, copy, file) = (place.path("db"), place.path("copy"), place.path("export"));
    fill(Path::new(&db));
    let (result, json) = tool(&["export", &db, "--output", &file, "--json"]);
    assert!(result.unwrap());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["keyspaces"], &json["entries"]), (&3.into(), &1_004.into()));
    assert_eq!(json["bytes"], fs::metadata(&file).unwrap().len());

    let (_, json) = shown(&["import", &copy, "--input", &file]);
    assert_eq!((&json["keyspaces"], &json["entries"]), (&3.into(), &1_004.into()), "twice, to the same end");
    let copied = content(&copy);
    assert!(copied == content(&db), "entries, expiries and options");
    assert_eq!((copied[0].2[499].2, copied[0].2[500].2), (None, Some(EXPIRE_AT.saturating_add(Millis(500)))));
    let reopened = Database::open(&copy).unwrap();
    assert_eq!(reopened.keyspace("notes", notes()).unwrap().get("n").unwrap().as_deref(), Some(&b"ab"[..]));
    drop(reopened);

    // Beside what a database holds already.
    let other = place.path("other");
    let existing = Database::open(&other).unwrap();
    existing.keyspace("photos", KeyspaceOptions::default()).unwrap().put("mine", "kept").unwrap();
    drop(existing);
    shown(&["import", &other, "--input", &file]);
    let found = content(&other);
    assert_eq!((found.len(), found[0].2.len(), &found[0].2[0].1[..]), (3, 3, &b"kept"[..]));

    // One keyspace alone.
    let part = place.path("part");
    tool(&["export", &db, "--output", &part, "--keyspace", "photos"]).0.unwrap();
    let (_, json) = shown(&["import", &place.path("small"), "--input", &part]);
    assert_eq!((&json["keyspaces"], &json["entries"]), (&1.into(), &2.into()));
}

#[test]
fn operands_that_only_their_operator_understands_are_not_exported() {
    let place = Place::new();
    let (db, file) = (place.path("db"), place.path("export"));
    fill(Path::new(&db));
    let open = Database::open(&db).unwrap();
    open.keyspace("notes", notes()).unwrap().merge("n", "c").unwrap();
    drop(open);
    let (result, _) = tool(&["export", &db, "--output", &file]);
    assert!(matches!(result, Err(ToolError::Operands { name }) if name == "notes"));
    assert!(!Path::new(&file).exists(), "half an export is none");
    tool(&["export", &db, "--output", &file, "--keyspace", "users", "--keyspace", "photos"]).0.unwrap();
}

#[test]
fn an_export_that_was_cut_or_altered_changes_nothing() {
    let place = Place::new();
    let (db, copy, file) = (place.path("db"), place.path("copy"), place.path("export"));
    fill(Path::new(&db));
    tool(&["export", &db, "--output", &file]).0.unwrap();
    let bytes = fs::read(&file).unwrap();
    let mut altered = bytes.clone();
    altered[bytes.len() / 2] ^= 1;
    for (bytes, is_cut) in [(&bytes[..bytes.len() - 1], true), (&altered[..], false)] {
        fs::write(&file, bytes).unwrap();
        match tool(&["import", &copy, "--input", &file]).0 {
            Err(ToolError::Stream(error)) => {
                assert!(error.offset > 20, "{error}");
                assert_eq!(matches!(error.what, Wrong::Truncated), is_cut, "{error}");
                assert_eq!(matches!(error.what, Wrong::Altered), !is_cut, "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(!Path::new(&copy).exists());
}

#[test]
fn what_cannot_be_done_is_refused() {
    let place = Place::new();
    let (db, file) = (place.path("db"), place.path("export"));
    let missing = tool(&["stats", &db]).0;
    assert!(matches!(missing, Err(ToolError::Engine(Error::NoDatabase { .. }))));
    assert!(!Path::new(&db).exists());
    fill(Path::new(&db));
    let unknown = tool(&["export", &db, "--output", &file, "--keyspace", "nobody"]).0;
    assert!(matches!(unknown, Err(ToolError::Engine(Error::NoSuchKeyspace { .. }))));
    let open = Database::open(&db).unwrap();
    for command in [&["stats", &db][..], &["verify", &db], &["export", &db, "--output", &file], &["levels", &db]] {
        assert!(matches!(tool(command).0, Err(ToolError::Engine(Error::Locked { .. }))), "{command:?}");
    }
    drop(open);
    fs::write(&file, "mine").unwrap();
    assert!(matches!(tool(&["export", &db, "--output", &file]).0, Err(ToolError::Output(_))));
    assert_eq!(fs::read(&file).unwrap(), b"mine", "a file that is there is not written over");
}
