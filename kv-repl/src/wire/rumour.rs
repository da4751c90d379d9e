//! Rumours in messages.

use kv_core::NodeId;
use kv_core::codec::{DecodeError, Reader, put_varint};
use kv_core::version::Incarnation;

use crate::identity::Boot;
use crate::liveness::{Claim, Liveness, Rumour};

/// One byte each for about, liveness, boot, refutations and by, and eight of incarnation.
const BYTES_MIN: usize = 13;

pub(super) fn encode_all(rumours: &[Rumour], out: &mut Vec<u8>) {
    put_varint(out, rumours.len() as u64);
    for rumour in rumours {
        put_varint(out, rumour.about.0);
        out.extend_from_slice(&rumour.incarnation.0.to_le_bytes());
        put_varint(out, rumour.claim.boot.0);
        put_varint(out, u64::from(rumour.claim.refutations));
        out.push(match rumour.liveness {
            Liveness::Alive => 1,
            Liveness::Suspect => 2,
            Liveness::Dead => 3,
        });
        put_varint(out, rumour.by.0);
    }
}

pub(super) fn decode_all(reader: &mut Reader<'_>) -> Result<Vec<Rumour>, DecodeError> {
    let count = reader.count(BYTES_MIN)?;
    let mut rumours = Vec::with_capacity(count);
    for _ in 0..count {
        rumours.push(Rumour {
            about: NodeId(reader.varint()?),
            incarnation: Incarnation(reader.u64()?),
            claim: Claim { boot: Boot(reader.varint()?), refutations: reader.varint32()? },
            liveness: match reader.u8()? {
                1 => Liveness::Alive,
                2 => Liveness::Suspect,
                3 => Liveness::Dead,
                _ => return Err(reader.error("unknown liveness")),
            },
            by: NodeId(reader.varint()?),
        });
    }
    Ok(rumours)
}
