//! What a message is, without what it says.

use super::Message;

macro_rules! kinds {
    ($($kind:ident $name:literal)*) => {
        /// The kinds of [`Message`].
        #[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
        pub enum MessageKind {
            $(#[doc = concat!("[`Message::", stringify!($kind), "`].")] $kind,)*
        }

        impl MessageKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// As metrics name it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }

        impl Message {
            /// Its kind.
            #[must_use]
            pub const fn kind(&self) -> MessageKind {
                match self { $(Self::$kind { .. } => MessageKind::$kind,)* }
            }
        }
    };
}

kinds! {
    Hello "hello"
    HelloReply "hello_reply"
    Unwelcome "unwelcome"
    Found "found"
    Replace "replace"
    CatalogPush "catalog_push"
    CatalogHave "catalog_have"
    CreateTable "create_table"
    TableCreated "table_created"
    Forward "forward"
    ForwardUpdate "forward_update"
    Forwarded "forwarded"
    Write "write"
    WriteReply "write_reply"
    Keep "keep"
    Kept "kept"
    Read "read"
    DigestReply "digest_reply"
    ReadReply "read_reply"
    Ping "ping"
    PingRequest "ping_request"
    Ack "ack"
    Nack "nack"
    News "news"
    Exchange "exchange"
    Describe "describe"
    Described "described"
    Scan "scan"
    Listed "listed"
    Together "together"
    RepairAsk "repair_ask"
    RepairAnswer "repair_answer"
    FloorAsk "floor_ask"
    FloorTold "floor_told"
}
