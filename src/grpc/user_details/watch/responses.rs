//! The response stream of a subscription.

use std::pin::Pin;

use futures_util::stream::{self, Stream};
use prost::Message;
use tonic::Status;

use crate::{
    domain::{
        error::Error,
        listing::LoggedChange,
        watch::{Charge, ResponseShare},
    },
    grpc::{
        errors,
        outbox::{Receiver, Waiting},
        user_details::list_changes::to_change,
    },
    proto::WatchUserDetailsResponse,
};

/// The response stream.
pub(in crate::grpc::user_details) type Responses =
    Pin<Box<dyn Stream<Item = Result<WatchUserDetailsResponse, Status>> + Send>>;

/// Converts each response when the client takes it.
pub(super) struct Sending {
    receiver: Receiver,
    share: ResponseShare,
    /// The charge of the last response, released when the client takes the next response.
    charge: Option<Charge>,
}

impl Sending {
    pub(super) fn new(receiver: Receiver, share: ResponseShare) -> Self {
        Self { receiver, share, charge: None }
    }

    pub(super) fn into_stream(self) -> Responses {
        Box::pin(stream::unfold(self, async |mut sending| {
            let response = sending.next().await?;
            Some((response, sending))
        }))
    }

    async fn next(&mut self) -> Option<Result<WatchUserDetailsResponse, Status>> {
        self.charge = None;
        let Waiting { change, resume_token } = match self.receiver.take().await? {
            Ok(waiting) => waiting,
            Err(status) => return Some(Err(status)),
        };
        let change = change.map(|change| to_change(LoggedChange::clone(&change)));
        let response = WatchUserDetailsResponse { change, resume_token };
        self.charge = self.share.try_charge(response.encoded_len());
        if self.charge.is_none() {
            let status = errors::status(&Error::Overloaded);
            self.receiver.refuse(status);
            return self.receiver.take().await.map(|next| next.map(|_| response));
        }
        Some(Ok(response))
    }
}
