//! `BatchUpdateUserDetails`: many updates, atomic or with partial success.

use prost::Message;
use tonic::Extensions;

use super::{
    handler::{UserDetails, origin},
    update::{to_response, to_update},
};
use crate::{
    domain::{
        call_context::CallContext,
        error::Error,
        scope::Scope,
        update::{Update, Updated},
    },
    grpc::{
        auth::Caller,
        errors::{self, invalid_request},
        layers::{elements::MAX_BATCH_SIZE, trace::Begun},
    },
    proto::{
        BatchUpdateUserDetailsRequest, BatchUpdateUserDetailsResponse, UpdateUserDetailsResponse,
        UpdateUserDetailsResult, UserDetails as Details,
        update_user_details_result::Result as UpdateResult,
    },
};

impl UserDetails {
    pub(super) async fn batch_update(
        &self,
        extensions: &Extensions,
        request: BatchUpdateUserDetailsRequest,
    ) -> Result<BatchUpdateUserDetailsResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let acting_username = request.acting_username;
        let actor = call.actor(&caller, Scope::Update, &acting_username)?;
        let origin = origin(&caller, extensions);
        if !(1..=MAX_BATCH_SIZE).contains(&request.requests.len()) {
            let problem = format!("must be 1 to {MAX_BATCH_SIZE} updates");
            return Err(invalid_request("requests", problem));
        }
        let user_ids: Vec<_> = request.requests.iter().map(|one| one.user_id).collect();
        let updates = request.requests.into_iter().enumerate().map(|(index, one)| {
            let other = !one.acting_username.is_empty() && one.acting_username != acting_username;
            let one = if other {
                Err(invalid_request(
                    "acting_username",
                    "must be empty, or equal to the value of the batch",
                ))
            } else {
                to_update(call, one, (actor.clone(), caller.fields()), origin.clone())
            };
            one.map_err(|error| (index, error))
        });
        let mut results = Results::new(self.options.largest_message);
        if request.allow_partial {
            self.update_each(call, updates, &mut results).await;
        } else {
            let in_batch = |(index, error)| Error::InBatch { index, error: Box::new(error) };
            let stored = async {
                let updates = updates.map(|update| update.map_err(in_batch));
                self.service.update_all(call, updates.collect::<Result<_, _>>()?).await
            };
            let stored = stored.await.inspect_err(|error| {
                if let Error::InBatch { index, .. } = error {
                    user_ids.get(*index).into_iter().for_each(|id| call.record.set_user(*id));
                }
            })?;
            stored.into_iter().for_each(|updated| results.add(Ok(updated)));
        }
        Ok(BatchUpdateUserDetailsResponse { results: results.items })
    }

    /// Applies the valid updates of a batch. Adds the results of all updates in request order.
    async fn update_each(
        &self,
        call: &CallContext,
        updates: impl Iterator<Item = Result<Update, (usize, Error)>>,
        results: &mut Results,
    ) {
        let (mut good, mut refused) = (Vec::new(), Vec::new());
        for update in updates {
            match update {
                Ok(update) => good.push(update),
                Err(error) => refused.push(error),
            }
        }
        let mut refused = refused.into_iter().peekable();
        let mut add_refused = |results: &mut Results| {
            while let Some((_, error)) = refused.next_if(|(index, _)| *index == results.items.len())
            {
                results.add(Err(error));
            }
        };
        let add = |outcome| {
            add_refused(results);
            results.add(outcome);
        };
        self.service.update_each(call, good, add).await;
        add_refused(results);
    }
}

/// The results of a batch, within the message size limit.
///
/// A response that is too large loses the old values first, then the details: a stored update must
/// not return an error.
struct Results {
    items: Vec<UpdateUserDetailsResult>,
    bytes: usize,
    limit: usize,
    /// How many of [`LESS`] were applied to all items.
    reductions: usize,
}

/// Reductions of a response, in the order of use.
const LESS: [fn(&mut UpdateUserDetailsResponse); 2] = [
    |one| one.previous_details = None,
    |one| {
        let etag = one.user_details.take().unwrap_or_default().etag;
        one.user_details = Some(Details { etag, ..Details::default() });
    },
];

/// Overhead of an item, in bytes: a tag and a length.
const ITEM_BYTES: usize = 6;

impl Results {
    fn new(limit: usize) -> Self {
        Self { items: Vec::new(), bytes: 0, limit, reductions: 0 }
    }

    fn add(&mut self, outcome: Result<Updated, Error>) {
        let mut item = to_result(outcome);
        LESS[..self.reductions].iter().for_each(|less| reduce(&mut item, *less));
        self.bytes += item.encoded_len() + ITEM_BYTES;
        self.items.push(item);
        while self.bytes > self.limit
            && let Some(less) = LESS.get(self.reductions)
        {
            self.items.iter_mut().for_each(|item| reduce(item, *less));
            self.bytes = self.items.iter().map(|item| item.encoded_len() + ITEM_BYTES).sum();
            self.reductions += 1;
        }
    }
}

fn reduce(item: &mut UpdateUserDetailsResult, less: fn(&mut UpdateUserDetailsResponse)) {
    if let Some(UpdateResult::Response(one)) = &mut item.result {
        less(one);
    }
}

/// Converts the outcome of one update.
fn to_result(outcome: Result<Updated, Error>) -> UpdateUserDetailsResult {
    let result = match outcome {
        Ok(updated) => UpdateResult::Response(to_response(updated)),
        Err(error) => UpdateResult::Error(errors::item(&error)),
    };
    UpdateUserDetailsResult { result: Some(result) }
}
