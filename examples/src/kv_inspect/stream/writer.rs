//! Writing an export.

use std::io::{self, Write};

use kv_core::checksum::crc32;
use kv_core::codec::put_prefixed;
use kv_core::time::Millis;

use super::{END, ENTRIES, EXPIRING, FRAME_BYTES, KEYSPACE, MAGIC, PLAIN, VERSION, frame_crc};

pub(in crate::kv_inspect) struct StreamWriter<'a> {
    out: &'a mut dyn Write,
    offset: u64,
    /// A frame of entries that is being filled.
    body: Vec<u8>,
    keyspaces: u64,
    entries: u64,
}

impl<'a> StreamWriter<'a> {
    pub(in crate::kv_inspect) fn new(out: &'a mut dyn Write) -> io::Result<Self> {
        let header = [&MAGIC[..], &VERSION.to_le_bytes(), &0_u32.to_le_bytes()].concat();
        out.write_all(&header)?;
        out.write_all(&crc32(&[&header]).to_le_bytes())?;
        Ok(Self { out, offset: header.len() as u64 + 4, body: vec![ENTRIES], keyspaces: 0, entries: 0 })
    }

    fn frame(&mut self, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len()).expect("a frame is bounded");
        self.out.write_all(&frame_crc(self.offset, length, body).to_le_bytes())?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(body)?;
        self.offset += 8 + u64::from(length);
        Ok(())
    }

    fn finish_entries(&mut self) -> io::Result<()> {
        if self.body.len() > 1 {
            let mut body = std::mem::replace(&mut self.body, vec![ENTRIES]);
            self.frame(&body)?;
            body.truncate(1);
            self.body = body;
        }
        Ok(())
    }

    pub(in crate::kv_inspect) fn keyspace(&mut self, name: &str, options: &[u8]) -> io::Result<()> {
        self.finish_entries()?;
        let mut body = vec![KEYSPACE];
        put_prefixed(&mut body, name.as_bytes());
        put_prefixed(&mut body, options);
        self.keyspaces += 1;
        self.frame(&body)
    }

    pub(in crate::kv_inspect) fn entry(
        &mut self,
        key: &[u8],
        value: &[u8],
        expire_at: Option<Millis>,
    ) -> io::Result<()> {
        self.body.push(if expire_at.is_some() { EXPIRING } else { PLAIN });
        put_prefixed(&mut self.body, key);
        if let Some(time) = expire_at {
            self.body.extend_from_slice(&time.0.to_le_bytes());
        }
        put_prefixed(&mut self.body, value);
        self.entries += 1;
        if self.body.len() >= FRAME_BYTES { self.finish_entries() } else { Ok(()) }
    }

    /// Ends the stream, and returns how many bytes, keyspaces and entries it has.
    pub(in crate::kv_inspect) fn finish(mut self) -> io::Result<(u64, u64, u64)> {
        self.finish_entries()?;
        let body = [&[END][..], &self.keyspaces.to_le_bytes(), &self.entries.to_le_bytes()].concat();
        self.frame(&body)?;
        self.out.flush()?;
        Ok((self.offset, self.keyspaces, self.entries))
    }
}
