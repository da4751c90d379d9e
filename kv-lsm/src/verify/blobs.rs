//! Every blob file is whole, and every pointer leads to the value that it describes.

use std::path::Path;
use std::sync::Arc;

use crate::blob::reader::{Inspected, inspect};
use crate::cursor::Cursor;
use crate::disk::Disk;
use crate::error::Error;
use crate::files;
use crate::internal_key::{Trailer, split_expiry};
use crate::table::cursor::TableCursor;
use crate::table::reader::Table;
use crate::version::Tree;

/// Reads the blob files of a tree, whole. Returns what is wrong, with the file that was being read, and the records there are.
pub(crate) fn check_files(
    disk: &dyn Disk,
    directory: &Path,
    keyspace: u32,
    tree: &Tree,
    read: &mut dyn FnMut(u64),
) -> (Vec<Error>, u64) {
    let (mut errors, mut records) = (Vec::new(), 0);
    for blob in tree.blobs.by_number.values() {
        let meta = blob.file.meta();
        let path = files::blob(directory, meta.number);
        let named = Inspected {
            keyspace,
            identity: meta.identity,
            format: meta.format,
            bytes: meta.bytes,
            records: meta.records,
        };
        match inspect(disk, &path, &mut |_, _| Ok(())) {
            Ok(found) if found == named => records += found.records,
            Ok(found) => errors.push(Error::corrupt(&path, 0, format!("{named:?}, as the manifest says: {found:?}"))),
            Err(error) => errors.push(error),
        }
        read(meta.bytes);
    }
    (errors, records)
}

/// Follows every pointer of a table. Returns the errors, each once for a file and offset.
pub(crate) fn check_pointers(tree: &Tree, table: &Arc<Table>) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut cursor = TableCursor::new(Arc::clone(table), false);
    let mut result = cursor.seek(&[], Trailer::NEWEST);
    // What cannot be read of the table itself is reported where the table is.
    while let (Ok(()), Some(entry)) = (&result, cursor.entry()) {
        if entry.trailer.is_separated() {
            let pointer = split_expiry(entry.trailer, entry.value).1;
            errors.extend(tree.blobs.read(entry.key, pointer).err());
        }
        result = cursor.next();
    }
    errors
}
