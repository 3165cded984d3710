//! The generated gRPC contract, and access to `UserDetails` by fields of the field table.

use crate::fields::{Field, user_fields};

/// The messages, clients and servers of `m4.userdetails.v1`; documented in the protos.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
mod generated {
    tonic::include_proto!("m4.userdetails.v1");
}
pub use generated::*;

/// The compiled protos, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// A channel to the services, in this process or in another one.
pub type Channel = tower::util::BoxCloneSyncService<
    http::Request<tonic::body::Body>,
    http::Response<tonic::body::Body>,
    tonic::Status,
>;

/// The reason as in `google.rpc.ErrorInfo`.
pub(crate) fn reason_name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// The name of a gRPC code in the specification.
pub(crate) fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The wire value of one field of `UserDetails`.
#[derive(Clone, Debug, PartialEq)]
pub enum Leaf {
    /// An id.
    Int64(i64),
    /// A number, or a value of an enum.
    Int32(i32),
    /// A flag.
    Bool(bool),
    /// Text, or a decimal.
    Text(String),
    /// A calendar day or a part of one.
    Date(Date),
}

/// A wire type of a leaf field.
trait LeafType: Sized {
    fn into_leaf(self) -> Leaf;
    fn from_leaf(leaf: Leaf) -> Option<Self>;
}

macro_rules! leaf_types {
    ($($variant:ident: $type:ty),*) => {$(
        impl LeafType for $type {
            fn into_leaf(self) -> Leaf {
                Leaf::$variant(self)
            }
            fn from_leaf(leaf: Leaf) -> Option<Self> {
                if let Leaf::$variant(value) = leaf { Some(value) } else { None }
            }
        }
    )*};
}
leaf_types!(Int64: i64, Int32: i32, Bool: bool, Text: String, Date: Date);

macro_rules! leaf_access {
    ($($group:ident . $name:ident : $kind:expr;)*) => {
        impl UserDetails {
            /// Takes the value of a field; `None` if absent.
            pub fn take(&mut self, field: Field) -> Option<Leaf> {
                match field {
                    $(Field::$name => self.$group.as_mut()?.$name.take().map(LeafType::into_leaf),)*
                }
            }

            /// Sets a field. A leaf of the wrong type clears the field.
            pub fn set(&mut self, field: Field, leaf: Leaf) {
                match field {
                    $(Field::$name => {
                        self.$group.get_or_insert_default().$name = LeafType::from_leaf(leaf);
                    })*
                }
            }
        }
    };
}
user_fields!(leaf_access);
